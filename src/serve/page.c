/* page.c - the web page, built into the program: one static file, no internet, no build step. */
#include "serve/serve.h"
#include "serve/web_page.h"

td_status td_answer_page(td_exchange *x)
{
    td_buffer_put(&x->out, td_web_page, td_web_page_bytes);
    return td_buffer_status(&x->out);
}

/* story.c - the whole API in one small program: open a model, ask for a completion, print it as it comes.
 *     cc story.c -ltandem ... -o story && ./story models/nano "Once upon a time"
 * Valid C and C++. */
#include <stdio.h>
#include <string.h>

#include "tandem.h"

static int fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, td_error());
    return 1;
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : NULL, *prompt = argc > 2 ? argv[2] : "Once upon a time";
    td_model *model;
    if (td_model_open(path, NULL, &model) < 0) return fail("model");
    td_engine *engine;
    if (td_engine_open(model, NULL, &engine) < 0) return fail("engine");

    td_request_options options;
    memset(&options, 0, sizeof options); /* zero means the default everywhere */
    options.text = prompt;
    options.text_bytes = strlen(prompt);
    options.max_tokens = 100;
    options.temperature = 0.8f;
    options.seed = 1;

    td_request *request;
    if (td_request_submit(engine, &options, &request) < 0) return fail("request");
    fputs(prompt, stdout);
    td_event event;
    do {
        if (td_request_next(request, -1, &event) < 0) return fail("event");
        fwrite(event.text, 1, event.text_bytes, stdout);
        fflush(stdout);
    } while (event.kind != TD_EVENT_FINISHED);
    printf("\n(%lld tokens, %.0f ms)\n", (long long)event.generated_tokens, event.prompt_ms + event.decode_ms);

    td_request_free(request);
    td_engine_close(engine);
    td_model_close(model);
    return event.finish == TD_FINISH_ERROR;
}

/* routes.c - every path of the server. */
#include "serve/serve.h"

const td_route td_routes[] = {
    {.method = "GET", .path = "/health", .open = true, .while_loading = true, .quick = td_answer_health},
    {.method = "GET", .path = "/v1/health", .open = true, .while_loading = true, .quick = td_answer_health},
    {.method = "GET", .path = "/", .open = true, .while_loading = true, .quick = td_answer_page, .type = "text/html; charset=utf-8"},
    {.method = "GET", .path = "/metrics", .while_loading = true, .quick = td_answer_metrics, .type = "text/plain; version=0.0.4; charset=utf-8"},
    {.method = "GET", .path = "/openapi.json", .open = true, .while_loading = true, .quick = td_answer_openapi},
    {.method = "GET", .path = "/v1/models", .quick = td_answer_models},
    {.method = "GET", .path = "/models", .quick = td_answer_models},
    {.method = "GET", .path = "/props", .quick = td_answer_props},
    {.method = "GET", .path = "/slots", .quick = td_answer_slots},
    {.method = "GET", .path = "/state", .quick = td_answer_state},
    {.method = "POST", .path = "/v1/chat/completions", .shape = &td_chat_shape},
    {.method = "POST", .path = "/chat/completions", .shape = &td_chat_shape},
    {.method = "POST", .path = "/v1/completions", .shape = &td_completions_shape},
    {.method = "POST", .path = "/completions", .shape = &td_completions_shape},
    {.method = "POST", .path = "/v1/responses", .shape = &td_responses_shape},
    {.method = "POST", .path = "/responses", .shape = &td_responses_shape},
    {.method = "POST", .path = "/v1/messages", .shape = &td_messages_shape},
    {.method = "POST", .path = "/v1/messages/count_tokens", .work = td_answer_count_tokens},
    {.method = "POST", .path = "/v1/embeddings", .shape = &td_embeddings_shape},
    {.method = "POST", .path = "/embeddings", .shape = &td_embeddings_shape},
    {.method = "POST", .path = "/tokenize", .work = td_answer_tokenize},
    {.method = "POST", .path = "/detokenize", .work = td_answer_detokenize},
    {.method = "POST", .path = "/apply-template", .work = td_answer_template},
    {0}};

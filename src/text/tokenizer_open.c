/* tokenizer_open.c - the tokenizer of a checkpoint: its side files, or its GGUF metadata. */
#include <stdlib.h>

#include "text/tokenizer_parts.h"

/* "eos_token_id" of a JSON side file: a number or a list of them. */
static void read_end_ids(const cJSON *file, td_tokenizer *t)
{
    const cJSON *item, *ids = cJSON_GetObjectItemCaseSensitive(file, "eos_token_id");
    if (cJSON_IsNumber(ids) && ids->valuedouble >= 0 && ids->valuedouble < t->size) {
        t->flags[(int32_t)ids->valuedouble] |= TD_TOKEN_END;
        if (t->eos < 0) t->eos = (int32_t)ids->valuedouble;
    }
    cJSON_ArrayForEach(item, ids)
        if (cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble < t->size) {
            t->flags[(int32_t)item->valuedouble] |= TD_TOKEN_END;
            if (t->eos < 0) t->eos = (int32_t)item->valuedouble;
        }
}

static td_status open_folder(const td_checkpoint *checkpoint, td_tokenizer **out)
{
    char *json = NULL, *config = NULL, *generation = NULL;
    size_t json_bytes = 0, config_bytes = 0, generation_bytes = 0;
    TD_TRY(td_checkpoint_side_file(checkpoint, "tokenizer.json", &json, &json_bytes));
    if (td_checkpoint_side_file(checkpoint, "tokenizer_config.json", &config, &config_bytes) < 0) config = NULL;
    td_status status = td_tokenizer_from_json(json, json_bytes, config, config_bytes, out);
    if (status == TD_OK) {
        read_end_ids(td_checkpoint_config(checkpoint), *out);
        read_end_ids(cJSON_GetObjectItemCaseSensitive(td_checkpoint_config(checkpoint), "text_config"), *out);
        if (td_checkpoint_side_file(checkpoint, "generation_config.json", &generation, &generation_bytes) == TD_OK) {
            cJSON *file = cJSON_ParseWithLength(generation, generation_bytes);
            read_end_ids(file, *out);
            cJSON_Delete(file);
        }
    }
    free(json);
    free(config);
    free(generation);
    return status < 0 ? td_context(status, "%s", td_checkpoint_path(checkpoint)) : TD_OK;
}

td_status td_tokenizer_open(const td_checkpoint *checkpoint, td_tokenizer **out)
{
    return td_checkpoint_format(checkpoint) == TD_FORMAT_GGUF ? td_tokenizer_from_gguf(checkpoint, out) : open_folder(checkpoint, out);
}

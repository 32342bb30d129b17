/* grammar_merge.h - JSON schemas put together, followed and compared; only for grammar_schema.c. */
#ifndef TD_TEXT_GRAMMAR_MERGE_H
#define TD_TEXT_GRAMMAR_MERGE_H

#include <cjson/cJSON.h>

#include "base/status.h"

enum { TD_MERGED_MAX = 4096 };

/* Schemas that were made, freed together. A merge of the same two is made once, so that recursion finds its way back. */
typedef struct { struct { const cJSON *first, *second; cJSON *made; } items[TD_MERGED_MAX]; int count; } td_merged_list;
typedef struct { td_merged_list *list; } td_merged;
void td_merged_free(td_merged *merged);
cJSON *td_merged_copy(td_merged *merged, const cJSON *schema); /* NULL: no memory */

/* Everything in schema except the keyword `without` and part, which must hold too. *out is part itself when nothing is beside it. False (the JSON value): never true. */
td_status td_merged_with_siblings(td_merged *merged, const cJSON *root, const cJSON *schema, const char *without, const cJSON *part, const cJSON **out);
/* allOf and what stands beside it. */
td_status td_merged_all(td_merged *merged, const cJSON *root, const cJSON *schema, const cJSON **out);

/* $ref: "#/a/b" in the root schema. */
td_status td_schema_follow(const cJSON *root, const cJSON *reference, const cJSON **out);

bool td_schema_says_nothing(const char *keyword); /* title, description, ... */
bool td_schema_type_allows(const cJSON *type, const cJSON *value);
const char *td_schema_implied_type(const cJSON *schema); /* of keywords that speak of one type only; NULL */
bool td_schemas_disjoint(const cJSON *root, const cJSON *a, const cJSON *b); /* certainly: false when in doubt */

#endif

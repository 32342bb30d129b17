/* inside.h - what the files of this room share: the checkpoint's own structure and the growing list of tensors that the two readers fill. For checkpoint/ only. */
#ifndef TD_CHECKPOINT_INSIDE_H
#define TD_CHECKPOINT_INSIDE_H

#include "base/arena.h"
#include "base/file.h"
#include "checkpoint/checkpoint.h"

typedef enum { GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL, GGUF_STRING, GGUF_ARRAY, GGUF_U64, GGUF_I64, GGUF_F64, GGUF_TYPES } td_gguf_type;

struct gguf_value {
    const char *key;         /* into the file, not NUL-terminated */
    size_t key_bytes;
    td_gguf_type type, element; /* element: of an array */
    uint64_t count;          /* elements of an array, else 1 */
    const uint8_t *data;     /* scalar or first element; for a STRING behind its length */
    uint64_t bytes;          /* STRING */
    const uint8_t *const *strings; /* array of strings: where each one's length stands; owned by the arena */
};

typedef struct {
    const char *type_name;   /* as the file calls it: "BF16", "q3_K", "type 99"; owned by the arena or static */
    uint64_t bytes;          /* in the file; 0 when unknown */
    uint64_t offset;         /* in the file */
    uint32_t file;
    const char *trouble;     /* NULL: usable; else why not ("tensor type q3_K") */
} td_entry;

struct td_checkpoint {
    td_format format;
    char *path, *folder;     /* owned; folder NULL for a GGUF */
    td_arena arena;
    td_file *files;          /* owned */
    size_t files_count;
    td_tensor *tensors;      /* in file order; owned */
    td_entry *entries;       /* beside tensors; owned */
    size_t count, capacity;
    uint32_t *by_name;       /* order of tensors by name; owned by the arena */
    cJSON *config;           /* owned */
    td_gguf_value *values;   /* of the first GGUF file, in file order; owned by the arena */
    size_t values_count;
    uint32_t *values_by_key; /* owned by the arena */
};

/* Maps one more file; *out points into checkpoint->files until the next call. */
td_status td_checkpoint_add_file(td_checkpoint *checkpoint, const char *path, td_file *out);
/* Appends one tensor; its name must live as long as the arena. At most UINT32_MAX tensors. */
td_status td_checkpoint_add(td_checkpoint *checkpoint, const td_tensor *tensor, const td_entry *entry);
/* Refuses tensors from number first on (all of the file added last) that overlap, and with gapless also bytes between and behind them. bytes: of the data section at start. */
td_status td_checkpoint_check_extents(const td_checkpoint *checkpoint, size_t first, uint64_t start, uint64_t end, bool gapless);
/* When data is not aligned for its type, copies it into the arena (tensors behind odd-sized ones in a safetensors file). */
td_status td_checkpoint_align(td_checkpoint *checkpoint, td_tensor *tensor, uint64_t bytes);

/* path: a folder or a .safetensors file. */
td_status td_safetensors_open(td_checkpoint *checkpoint, const char *path);
/* Gives X_scale_inv to X where X is F8_E4M3, and takes it off the list. Names are sorted before; sorted again by the caller when *removed. */
td_status td_safetensors_attach_scales(td_checkpoint *checkpoint, bool *removed);
/* Sorts by name and refuses a name that comes twice. */
td_status td_checkpoint_sort_names(td_checkpoint *checkpoint);
/* Number of the tensor of this name, or checkpoint->count. */
size_t td_checkpoint_place(const td_checkpoint *checkpoint, const char *name);
/* path: one .gguf file of a set. */
td_status td_gguf_open(td_checkpoint *checkpoint, const char *path);
/* Sorts the keys and refuses a key that comes twice. */
td_status td_gguf_index(td_checkpoint *checkpoint, const char *path);

const td_gguf_value *td_gguf_find(const td_checkpoint *checkpoint, const char *key);
const char *td_gguf_type_name(td_gguf_type type);
int td_gguf_type_bytes(td_gguf_type type); /* 0 for strings and arrays */

#endif

#include "tests/daemon/family_checkpoint.h"

#include "tests/daemon/counter_weights.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TENSORS_MAX  128
#define LAYER_PREFIX "model.layers.0."

struct tensor {
    char name[96];
    const json_t *shape;
    size_t count, columns;
};

static void must(bool done, const char *what)
{
    if (!done) {
        perror(what);
        abort();
    }
}

static const char *path_of(const struct family_checkpoint *c, const char *file)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", c->directory, file);
    return path;
}

/* ---- which tensors: those around the layers, and the first layer's once per layer ---- */

static void add_tensor(struct tensor *tensors, int *count, const char *name, const json_t *shape)
{
    must(*count < TENSORS_MAX, "too many tensors");
    struct tensor *t = &tensors[(*count)++];
    *t = (struct tensor){.shape = shape, .count = 1};
    snprintf(t->name, sizeof t->name, "%s", name);
    for (size_t i = 0; i < json_array_size(shape); i++) {
        t->columns = (size_t)json_integer_value(json_array_get(shape, i));
        t->count *= t->columns;
    }
}

static int list_tensors(const struct family_checkpoint *c, struct tensor *tensors)
{
    const json_t *config = json_object_get(c->golden, "config");
    int layers = (int)json_integer_value(json_object_get(config, "num_hidden_layers")), count = 0;
    const char *name;
    json_t *shape;
    json_object_foreach(json_object_get(c->golden, "tensors"), name, shape)
    {
        bool layered = strncmp(name, LAYER_PREFIX, strlen(LAYER_PREFIX)) == 0;
        for (int l = 0; l < (layered ? layers : 1); l++) {
            char full[96];
            if (layered)
                snprintf(full, sizeof full, "model.layers.%d.%s", l, name + strlen(LAYER_PREFIX));
            else
                snprintf(full, sizeof full, "%s", name);
            add_tensor(tensors, &count, full, shape);
        }
    }
    return count;
}

/* ---- the files ---- */

static void write_header(FILE *f, const struct tensor *tensors, int count)
{
    json_t *header = json_object();
    size_t offset = 0;
    for (int i = 0; i < count; i++) {
        size_t end = offset + tensors[i].count * sizeof(float);
        json_object_set_new(header, tensors[i].name,
                            json_pack("{s:s, s:O, s:[I, I]}", "dtype", "F32", "shape",
                                      tensors[i].shape, "data_offsets", (json_int_t)offset,
                                      (json_int_t)end));
        offset = end;
    }
    char *text = json_dumps(header, JSON_COMPACT);
    must(text != NULL, "header");
    uint64_t length = strlen(text); /* little-endian machines only, like the runtime's targets */
    fwrite(&length, sizeof length, 1, f);
    fwrite(text, 1, length, f);
    free(text);
    json_decref(header);
}

static void write_safetensors(const struct family_checkpoint *c)
{
    struct tensor tensors[TENSORS_MAX];
    int count = list_tensors(c, tensors);
    uint64_t seed = (uint64_t)json_integer_value(json_object_get(c->golden, "seed"));
    FILE *f = fopen(path_of(c, "model.safetensors"), "we");
    must(f != NULL, "model.safetensors");
    write_header(f, tensors, count);
    for (int i = 0; i < count; i++) {
        const struct tensor *t = &tensors[i];
        float *values = malloc(t->count * sizeof *values);
        must(values != NULL, "memory");
        counter_weights(values, t->count, t->name, seed, t->columns);
        fwrite(values, sizeof *values, t->count, f);
        free(values);
    }
    must(fclose(f) == 0, "model.safetensors");
}

static void write_config(const struct family_checkpoint *c, const char *edit)
{
    json_t *config = json_deep_copy(json_object_get(c->golden, "config"));
    if (edit != NULL) {
        json_t *changes = json_loads(edit, 0, NULL);
        must(changes != NULL && json_object_update_recursive(config, changes) == 0, edit);
        json_decref(changes);
    }
    must(json_dump_file(config, path_of(c, "config.json"), 0) == 0, "config.json");
    json_decref(config);
}

void family_checkpoint_open(struct family_checkpoint *c, const char *name, const char *edit)
{
    char golden[512];
    json_error_t problem;
    snprintf(golden, sizeof golden, "%s/tests/vectors/families/%s.json", LLM_SOURCE_DIR, name);
    const char *parent = getenv("TMPDIR");
    *c = (struct family_checkpoint){0};
    snprintf(c->directory, sizeof c->directory, "%s/llmd-family-XXXXXX",
             parent != NULL && strlen(parent) < 40 ? parent : "/tmp");
    c->golden = json_load_file(golden, 0, &problem);
    must(c->golden != NULL, golden);
    must(mkdtemp(c->directory) != NULL, c->directory);
    write_config(c, edit);
    write_safetensors(c);
}

void family_checkpoint_close(struct family_checkpoint *c)
{
    unlink(path_of(c, "config.json"));
    unlink(path_of(c, "model.safetensors"));
    rmdir(c->directory);
    json_decref(c->golden);
}

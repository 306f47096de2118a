#include "tests/fuzz/json_edit.h"

#include <stdbool.h>

#define DEPTH_MAX 6

static json_t *odd_value(struct input *in, const char *const *values, size_t count)
{
    uint8_t choice = input_byte(in);
    if (choice < 200)
        return json_loads(values[choice % count], JSON_DECODE_ANY, NULL);
    char text[32];
    size_t bytes = input_byte(in) % sizeof text;
    input_copy(in, text, bytes);
    return json_stringn(text, bytes); /* NULL when it is not UTF-8 */
}

static bool has_children(const json_t *value)
{
    return (json_is_array(value) && json_array_size(value) > 0) ||
           (json_is_object(value) && json_object_size(value) > 0);
}

static void *iter_at(json_t *object, size_t child)
{
    void *it = json_object_iter(object);
    for (child %= json_object_size(object); child > 0; child--)
        it = json_object_iter_next(object, it);
    return it;
}

void json_edit(json_t *root, struct input *in, const char *const *values, size_t count)
{
    for (int depth = 0; depth < DEPTH_MAX && has_children(root); depth++) {
        bool stop = input_byte(in) % 4 == 0;
        size_t child = (size_t)input_number(in, 2);
        void *it = json_is_object(root) ? iter_at(root, child) : NULL;
        json_t *at =
            it ? json_object_iter_value(it) : json_array_get(root, child % json_array_size(root));
        if (!stop && (json_is_array(at) || json_is_object(at))) {
            root = at;
            continue;
        }
        if (it)
            json_object_iter_set_new(root, it, odd_value(in, values, count));
        else
            json_array_set_new(root, child % json_array_size(root), odd_value(in, values, count));
        return;
    }
}

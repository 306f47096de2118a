#include "daemon/model/model_notes.h"

#include <stdarg.h>
#include <stdio.h>

void model_note(const struct model_notes *notes, const char *format, ...)
{
    if (notes == NULL || notes->note == NULL)
        return;
    char sentence[LLM_ERROR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    notes->note(notes->self, sentence);
}

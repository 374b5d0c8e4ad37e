#include "broker/session/will.h"

#include <stdlib.h>

void will_free(struct will *will)
{
    if (will) {
        message_unref(will->message);
        principal_unref(will->principal);
        free(will);
    }
}

/* The OpenAPI document, openapi.json, as it stands beside this file: it is part of the program. */
#include "broker/admin/api_tables.h"

__asm__(".section .rodata\n"
        ".globl openapi_text\n"
        ".globl openapi_bytes\n"
        "openapi_text:\n"
        ".incbin \"broker/admin/openapi.json\"\n"
        "0:\n"
        ".balign 8\n"
        "openapi_bytes: .quad 0b - openapi_text\n"
        ".previous\n");

extern const char openapi_text[];
extern const uint64_t openapi_bytes;

static void show_document(struct admin_request *request)
{
    admin_reply_static(request, 200, "application/json", slice_of(openapi_text, openapi_bytes));
}

static const struct admin_route routes[] = {
    {ADMIN_GET, "/api/v1/openapi.json", ADMIN_VIEWER, show_document},
};

const struct admin_table admin_openapi_table = {routes, COUNT_OF(routes)};

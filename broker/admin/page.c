/* page.c -- the dashboard: the files of page/, as they stand there, are part of the program. They hold no secret, so
 * that everybody may load them; what they show comes from /api/v1, where one has to log in. */
#include <inttypes.h>

#include "broker/admin/admin_inside.h"

#define FILE_OF(name, path) \
    __asm__(".section .rodata\n" \
            ".globl " #name "_text\n" \
            ".globl " #name "_bytes\n" #name "_text:\n" \
            ".incbin \"broker/admin/page/" path "\"\n" \
            "0:\n" \
            ".balign 8\n" #name "_bytes: .quad 0b - " #name "_text\n" \
            ".previous\n"); \
    extern const char name##_text[]; \
    extern const uint64_t name##_bytes;

FILE_OF(page_html, "index.html")
FILE_OF(page_css, "tern.css")
FILE_OF(page_js, "tern.js")
FILE_OF(page_uplot_css, "uplot.css")
FILE_OF(page_uplot_js, "uplot.js")

/* No script, style or address but this port's own, in nobody's frame. */
#define POLICY \
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; " \
    "frame-ancestors 'none'"

/* FNV-1a: which build's file it is, no more. */
static uint64_t tag_of(struct slice body)
{
    uint64_t hash = 0xcbf29ce484222325u;

    for (size_t i = 0; i < body.len; i++) {
        hash = (hash ^ body.ptr[i]) * 0x100000001b3u;
    }
    return hash;
}

static void show(struct admin_request *r, const char *type, struct slice body)
{
    char tag[24];

    snprintf(tag, sizeof(tag), "\"%016" PRIx64 "\"", tag_of(body));
    admin_header(r, "Cache-Control", "no-cache"); /* it may be kept, and is asked for by its tag */
    admin_header(r, "ETag", tag);
    admin_header(r, "Content-Security-Policy", POLICY);
    admin_header(r, "Referrer-Policy", "no-referrer");
    if (slice_eq(http1_field(r->head, "if-none-match"), slice_str(tag))) {
        admin_reply(r, 304, NULL, NULL);
        return;
    }
    admin_reply_static(r, 200, type, body);
}

static void show_html(struct admin_request *r)
{
    show(r, "text/html; charset=utf-8", slice_of(page_html_text, page_html_bytes));
}

static void show_css(struct admin_request *r)
{
    show(r, "text/css; charset=utf-8", slice_of(page_css_text, page_css_bytes));
}

static void show_js(struct admin_request *r)
{
    show(r, "text/javascript; charset=utf-8", slice_of(page_js_text, page_js_bytes));
}

static void show_uplot_css(struct admin_request *r)
{
    show(r, "text/css; charset=utf-8", slice_of(page_uplot_css_text, page_uplot_css_bytes));
}

static void show_uplot_js(struct admin_request *r)
{
    show(r, "text/javascript; charset=utf-8", slice_of(page_uplot_js_text, page_uplot_js_bytes));
}

static const struct admin_route routes[] = {
    {ADMIN_GET, "/", ADMIN_ANYBODY, show_html},
    {ADMIN_GET, "/tern.css", ADMIN_ANYBODY, show_css},
    {ADMIN_GET, "/tern.js", ADMIN_ANYBODY, show_js},
    {ADMIN_GET, "/uplot.css", ADMIN_ANYBODY, show_uplot_css},
    {ADMIN_GET, "/uplot.js", ADMIN_ANYBODY, show_uplot_js},
};

const struct admin_table admin_page_table = {routes, COUNT_OF(routes)};

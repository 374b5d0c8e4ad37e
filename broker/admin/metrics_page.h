/* metrics_page.h -- between metrics_page.c and metrics_node.c: pieces of /metrics. */
#ifndef TERN_BROKER_ADMIN_METRICS_PAGE_H
#define TERN_BROKER_ADMIN_METRICS_PAGE_H

#include <stdio.h>

#include "broker/admin/admin_inside.h"

void page_head(struct buf *out, const char *name, const char *type, const char *help);
/* {label="value"}, escaped. */
void page_label(struct buf *out, const char *label, struct slice value);
void page_gauge(struct buf *out, const char *name, const char *help, double value);

/* What the node is, its listeners, certificates, cluster. */
void page_node(struct buf *out, struct broker *b, const struct admin *admin);
/* The process, its memory, its disk. */
void page_process(struct buf *out, struct broker *b, const struct admin *admin, const struct metrics *sum);

#endif

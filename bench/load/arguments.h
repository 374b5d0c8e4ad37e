/* arguments.h -- what stands behind a flag: numbers, sizes, addresses, lists. What is wrong with it is told in one
 * sentence on standard error, which names the flag. Touched by: the main thread, at the start. */
#ifndef TERN_BENCH_LOAD_ARGUMENTS_H
#define TERN_BENCH_LOAD_ARGUMENTS_H

#include "bench/load/options.h"

/* Say what is wrong, as "tern-bench: --flag: ...". Returns false. */
__attribute__((format(printf, 1, 2))) bool argument_wrong(const char *format, ...);

/* A number from least to most, with an optional k or M behind it. */
bool argument_number(const char *flag, const char *text, double least, double most, double *ret_value);
bool argument_whole(const char *flag, const char *text, uint32_t least, uint32_t most, uint32_t *ret_value);
bool argument_bool(const char *flag, const char *text, bool *ret_value);
bool argument_size(struct options *o, const char *text);
bool argument_io(struct options *o, const char *text);

/* Lists with commas, of which the text is taken apart: at least one of each. Hosts without a port get options->port. */
bool argument_hosts(struct options *o, char *list);
bool argument_sources(struct options *o, char *list);
bool argument_pids(struct options *o, char *list);

#endif

/* words.h -- commands as they stand in a file: split into words, with places in them that are filled.
 *
 * Why not a shell: it would stand between us and the broker, whose process identifier we need; and on a machine where
 * it is another shell the same file would mean something else. */
#ifndef TERN_BENCH_WORDS_H
#define TERN_BENCH_WORDS_H

#include <stddef.h>
#include <stdint.h>

#define WORDS_MAX 64         /* of one command */
#define WORD_BYTES_MAX 16384 /* of one command, or of one configuration, also after replacement */

/* The words of a command; word[count] is NULL, so that word is an argv. */
struct words {
    uint32_t count;
    char *word[WORDS_MAX + 1]; /* each owned */
};

/* Split like a POSIX shell: blanks part words, '...' is literal, "..." knows \" \\ \$ and \`, \x outside is x. Nothing
 * is expanded. Returns 0, -EINVAL (a quote is not closed, or a lone \ at the end), -E2BIG (too many words) or -ENOMEM,
 * with *ret_words empty. */
int words_split(const char *text, struct words *ret_words);
void words_deinit(struct words *words);

/* What stands for {port}, {directory} and {config}. */
struct word_places {
    uint16_t port;
    const char *directory, *config; /* borrowed; NULL: this place is text as any other */
};

/* Write text into out, each of the three replaced; other braces stay. Returns 0, or -E2BIG when size does not suffice.
 */
int word_expand(const char *text, const struct word_places *places, char *out, size_t size);

#endif

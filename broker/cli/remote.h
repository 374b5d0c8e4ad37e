/* remote.h -- ternctl over the admin port of a node: nouns and verbs, each a row that says what is asked and how the
 * answer is shown.
 *
 *     ternctl clients list --top queue     GET /api/v1/clients?sort=queue&order=desc     columns
 *
 * `remote_verbs` is data; `remote_run` reads the arguments by it; `remote_ask` is one request. Most verbs need nothing
 * but their row. Who runs: the main thread, which waits for the answer. */
#ifndef TERN_BROKER_CLI_REMOTE_H
#define TERN_BROKER_CLI_REMOTE_H

#include "broker/cli/cli.h"

#include <jansson.h>

#define REMOTE_GIVEN_MAX 64u /* options on one command line */
#define REMOTE_SECRET_MAX 1024u
#define REMOTE_OPTIONS_MAX 24u /* of one verb and of all verbs together */

/* An option of a verb. */
struct remote_option {
    const char *name;  /* without dashes; NULL ends a list */
    const char *value; /* NULL: none. "N": a number; "DURATION": 90, 90s, 10m, 2h, 7d; "a|b": one of these; else text */
    const char *query; /* parameter that it becomes, without a value: parameter=value; NULL: the verb reads it itself */
    const char *help;
};

/* How a value is shown. */
enum remote_form { FORM_TEXT, FORM_NUMBER, FORM_BYTES, FORM_SECONDS };

/* A column of a list; title NULL ends it. */
struct remote_column {
    const char *title, *field;
    enum remote_form form;
};

struct remote_call;

struct remote_verb {
    const char *name;     /* "clients list", or one word */
    const char *operands; /* "ID": one, "[ID]": perhaps, "ID...": one or more; several: "AS WHO" */
    const char *method;
    const char *path;                    /* behind /api/v1; a %s stands for the first operand, or nothing */
    const struct remote_column *columns; /* of a list; NULL: the answer is one object */
    const struct remote_option *options; /* NULL: none */
    int (*run)(struct remote_call *call);
    const char *help; /* one sentence */
};

extern const struct remote_verb remote_verbs[];
extern const size_t remote_verb_count;
extern const struct remote_option remote_common_options[]; /* those of all verbs */

/* One run of ternctl. */
struct remote_call {
    const struct remote_verb *verb;
    struct {
        const struct remote_option *option;
        const char *value; /* borrowed from argv; "" without one */
    } given[REMOTE_GIVEN_MAX];
    unsigned given_count;
    char **operands; /* borrowed from argv */
    unsigned operand_count;
    char password[REMOTE_SECRET_MAX + 2], token[REMOTE_SECRET_MAX + 2]; /* and a newline */
    void *curl;                                                         /* owned: one handle for all requests */
};

/* ---- arguments ---- */

/* Whether argv begins with a verb, behind options that all verbs have. */
bool remote_is_verb(int argc, char **argv);

/* Run it. Returns the exit status. */
int remote_run(int argc, char **argv);

/* Append "clients list [--top ...] ..." with what the verb takes. */
void remote_usage(const struct remote_verb *verb, struct buf *out);
void remote_usage_option(const struct remote_option *option, struct buf *out);

/* The last value given for an option of this name; NULL: none was given; "" for one without value. */
const char *remote_value(const struct remote_call *call, const char *name);

/* Seconds of a DURATION that was checked; 0 when none was given. */
uint32_t remote_seconds(const struct remote_call *call, const char *name);

/* ---- requests ---- */

/* What comes back, in pieces: returns false to end it. */
typedef bool remote_taker(void *context, const char *bytes, size_t len);

struct remote_ask {
    const char *method, *path; /* behind /api/v1, with its query */
    const json_t *body;        /* borrowed; NULL: none */
    bool any_status;           /* an answer that is no success is an answer still */
    remote_taker *taker;       /* for streams; NULL: the answer is JSON */
    void *context;
    bool ended; /* out: the taker ended it */
};

/* Ask and wait. *ret_json is the caller's, NULL when the answer has no body; with a taker it stays as it is. Anything
 * but CLI_DONE has been told: CLI_FAILED, or CLI_UNREACHED when no node answered. */
int remote_ask(struct remote_call *call, struct remote_ask *ask, json_t **ret_json);
void remote_hang_up(struct remote_call *call);

/* Append text with %XX for all but letters, digits and -._~ */
void remote_put_escaped(struct buf *out, const char *text);

/* Append the verb's path with its operand in place, and the options as query: "/clients/a%2Fb?node=n1". */
void remote_put_path(const struct remote_call *call, const char *path, const char *operand, struct buf *out);

/* ---- what verbs do ---- */

int remote_list(struct remote_call *call);   /* a table of all pages asked for */
int remote_show(struct remote_call *call);   /* one object, a line each */
int remote_status(struct remote_call *call); /* exit status 1 unless the node is ready */
int remote_cluster(struct remote_call *call);
int remote_each(struct remote_call *call); /* a request for each operand */
int remote_publish(struct remote_call *call);
int remote_ban(struct remote_call *call);
int remote_unban(struct remote_call *call);
int remote_log_level(struct remote_call *call);
int remote_drain(struct remote_call *call);
int remote_trace(struct remote_call *call);
int remote_retained_get(struct remote_call *call);
int remote_metrics(struct remote_call *call);
int remote_bench(struct remote_call *call);

/* ---- showing ---- */

/* Print JSON as it came, or what a person reads; each returns CLI_DONE or a told CLI_FAILED. */
int remote_print_json(const json_t *json);
int remote_print_object(const json_t *object);
int remote_print_rows(const json_t *rows, const struct remote_column *columns);

/* Append a value as text: strings as they are, yes and no, lists with commas, "" for null. */
void remote_put_value(struct buf *out, const json_t *value, enum remote_form form);

/* The text of a buf that was filled by cli_put and such, ended with NUL; NULL when memory is out, which is told. */
const char *remote_text(struct buf *out);

#endif

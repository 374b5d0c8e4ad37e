/* remote_http.c -- one request to the admin port and its answer, by libcurl.
 *
 * No proxy is asked, whatever the environment says: the admin port is a neighbour, and its password is nobody else's.
 * Redirections are not followed for the same reason. */
#include "broker/cli/remote.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "broker/cli/sheet.h"

#define URL_DEFAULT "http://127.0.0.1:18083"
#define ANSWER_BYTES_MAX ((size_t)64 << 20)
#define CONNECT_SECONDS 10L
#define ANSWER_SECONDS 60L /* a node waits at most 2 s for each other */

struct reply {
    struct remote_ask *ask;
    CURL *curl;
    struct buf body;
    bool too_large;
};

static const char *base_url(const struct remote_call *call)
{
    const char *url = remote_value(call, "url"), *environment = getenv("TERNCTL_URL");

    return url ? url : environment && *environment ? environment : URL_DEFAULT;
}

void remote_put_escaped(struct buf *out, const char *text)
{
    static const char digits[] = "0123456789ABCDEF";

    for (const uint8_t *at = (const uint8_t *)text; *at; at++) {
        bool letter = (*at | 0x20) >= 'a' && (*at | 0x20) <= 'z';
        if (letter || (*at >= '0' && *at <= '9') || strchr("-._~", *at)) {
            buf_u8(out, *at);
        } else {
            const uint8_t shown[] = {'%', (uint8_t)digits[*at >> 4], (uint8_t)digits[*at & 15]};
            buf_put(out, slice_of(shown, sizeof(shown)));
        }
    }
}

void remote_put_path(const struct remote_call *call, const char *path, const char *operand, struct buf *out)
{
    const char *place = strstr(path, "%s");
    char separator = strchr(path, '?') ? '&' : '?';

    buf_put(out, place ? slice_of(path, (size_t)(place - path)) : slice_str(path));
    if (place) {
        remote_put_escaped(out, operand);
        buf_put(out, slice_str(place + 2));
    }
    for (unsigned i = 0; i < call->given_count; i++) {
        const struct remote_option *option = call->given[i].option;
        if (option->query && !option->value) { /* a flag that stands for a parameter and its value */
            cli_put(out, "%c%s", separator, option->query);
            separator = '&';
        } else if (option->query) {
            cli_put(out, "%c%s=", separator, option->query);
            remote_put_escaped(out, call->given[i].value);
            separator = '&';
        }
    }
}

/* libcurl's write callback. The body of a success goes to the taker, if there is one; that of an error is kept. */
static size_t take_bytes(char *bytes, size_t one, size_t len, void *context)
{
    struct reply *r = context;
    long status = 0;

    (void)one; /* always 1 */
    curl_easy_getinfo(r->curl, CURLINFO_RESPONSE_CODE, &status);
    if (r->ask->taker && status == 200) {
        r->ask->ended = !r->ask->taker(r->ask->context, bytes, len);
        return r->ask->ended ? 0 : len;
    }
    if (len > ANSWER_BYTES_MAX - r->body.len) {
        r->too_large = true;
        return 0;
    }
    buf_put(&r->body, slice_of(bytes, len));
    return r->body.failed ? 0 : len;
}

/* Whether what is sent there leaves this machine; libcurl itself says which host it would go to. */
static bool is_loopback(const char *text)
{
    CURLU *url = curl_url();
    char *host = NULL;
    bool local = false;

    if (url && curl_url_set(url, CURLUPART_URL, text, 0) == CURLUE_OK &&
        curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK) {
        local = strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 ||
                (strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == strlen(host));
    }
    curl_free(host);
    curl_url_cleanup(url);
    return local;
}

/* Who we are: a token, or a user and his password. */
static int set_identity(struct remote_call *call)
{
    const char *user = remote_value(call, "user"), *url = base_url(call);
    bool known = *call->token || user;

    if (known && strncasecmp(url, "https:", 6) != 0 && !is_loopback(url) && !remote_value(call, "insecure")) {
        return cli_fail(CLI_FAILED, "%s would show the %s to everybody on the way: use https, or say --insecure", url,
                        *call->token ? "token" : "password");
    }
    if (*call->token) {
        curl_easy_setopt(call->curl, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
        curl_easy_setopt(call->curl, CURLOPT_XOAUTH2_BEARER, call->token);
    } else if (user) {
        curl_easy_setopt(call->curl, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
        curl_easy_setopt(call->curl, CURLOPT_USERNAME, user);
        curl_easy_setopt(call->curl, CURLOPT_PASSWORD, call->password);
    }
    return CLI_DONE;
}

static int set_up(struct remote_call *call)
{
    const char *url = base_url(call), *ca = remote_value(call, "cacert");

    if (strncasecmp(url, "http://", 7) != 0 && strncasecmp(url, "https://", 8) != 0) {
        return cli_fail(CLI_ARGUMENTS, "--url %s: must begin with http:// or https://", url);
    }
    call->curl = curl_easy_init();
    if (!call->curl) {
        return cli_fail(CLI_FAILED, "out of memory");
    }
    curl_easy_setopt(call->curl, CURLOPT_PROXY, "");
    curl_easy_setopt(call->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(call->curl, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS);
    if (ca) {
        curl_easy_setopt(call->curl, CURLOPT_CAINFO, ca);
    }
    if (remote_value(call, "insecure")) {
        curl_easy_setopt(call->curl, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(call->curl, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    return set_identity(call);
}

/* What the node says is wrong, in its own words. */
static int tell_refusal(const struct remote_call *call, long status, const json_t *json)
{
    const char *message = json_string_value(json_object_get(json, "message"));
    const char *code = json_string_value(json_object_get(json, "code"));
    struct buf safe = {0};
    int result = CLI_FAILED;

    sheet_put_safe(&safe, message ? message : code ? code : "it gives no reason");
    buf_u8(&safe, 0);
    if (safe.failed) {
        buf_deinit(&safe);
        return cli_fail(CLI_FAILED, "out of memory");
    }
    if (status == 401) {
        cli_fail(result, "%s wants to know who asks: --user NAME, or --token-file FILE%s", base_url(call),
                 *call->token || remote_value(call, "user") ? " (those given are not right)" : "");
    } else if (status == 403) {
        cli_fail(result, "this user may not do that: %s", (const char *)safe.ptr);
    } else if (!message) {
        cli_fail(result, "%s answers with status %ld, not as a node of Tern does", base_url(call), status);
    } else {
        cli_fail(result, "%s", (const char *)safe.ptr);
    }
    buf_deinit(&safe);
    return result;
}

static int tell_unreached(const struct remote_call *call, CURLcode code, const char *why)
{
    const char *reason = *why ? why : curl_easy_strerror(code);

    if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST) {
        return cli_fail(CLI_UNREACHED, "no node answers at %s (%s)", base_url(call), reason);
    }
    return cli_fail(CLI_UNREACHED, "%s: %s", base_url(call), reason);
}

/* What came, as the caller asked for it. */
static int take_reply(const struct remote_call *call, const struct reply *r, json_t **ret_json)
{
    json_error_t error;
    long status = 0;

    curl_easy_getinfo(call->curl, CURLINFO_RESPONSE_CODE, &status);
    bool good = status >= 200 && status < 300;
    if (good && r->ask->taker) {
        return CLI_DONE;
    }
    json_t *json = json_loadb((const char *)r->body.ptr, r->body.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (!good && !(r->ask->any_status && json)) {
        int rc = tell_refusal(call, status, json);
        json_decref(json);
        return rc;
    }
    if (!json && status != 204) {
        return cli_fail(CLI_FAILED, "%s does not answer as a node of Tern does: %s", base_url(call), error.text);
    }
    *ret_json = json;
    return CLI_DONE;
}

/* The body and the header fields, which must live as long as the request. */
static bool set_body(struct remote_call *call, const struct remote_ask *ask, char **ret_body,
                     struct curl_slist **ret_headers)
{
    struct curl_slist *more;

    *ret_headers = curl_slist_append(NULL, "Accept: application/json");
    more = ask->body ? curl_slist_append(*ret_headers, "Content-Type: application/json") : *ret_headers;
    more = more ? curl_slist_append(more, "Expect:") : NULL; /* bodies are small: no question first */
    *ret_body = ask->body ? json_dumps(ask->body, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    curl_easy_setopt(call->curl, CURLOPT_HTTPHEADER, *ret_headers);
    if (ask->body) {
        curl_easy_setopt(call->curl, CURLOPT_POSTFIELDS, *ret_body);
    } else {
        curl_easy_setopt(call->curl, CURLOPT_HTTPGET, 1L);
    }
    curl_easy_setopt(call->curl, CURLOPT_CUSTOMREQUEST, ask->method);
    return more && (*ret_body || !ask->body);
}

int remote_ask(struct remote_call *call, struct remote_ask *ask, json_t **ret_json)
{
    struct reply reply = {.ask = ask};
    struct curl_slist *headers = NULL;
    struct buf url = {0};
    char why[CURL_ERROR_SIZE] = "", *body = NULL;
    int status = call->curl ? CLI_DONE : set_up(call);

    if (status) {
        return status;
    }
    const char *base = base_url(call);
    size_t base_len = strlen(base);
    reply.curl = call->curl;
    cli_put(&url, "%.*s/api/v1%s%c", (int)(base_len - (base[base_len - 1] == '/')), base, ask->path, 0);
    bool ready = set_body(call, ask, &body, &headers) && !url.failed;
    curl_easy_setopt(call->curl, CURLOPT_URL, (const char *)url.ptr);
    curl_easy_setopt(call->curl, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(call->curl, CURLOPT_WRITEFUNCTION, take_bytes);
    curl_easy_setopt(call->curl, CURLOPT_WRITEDATA, &reply);
    curl_easy_setopt(call->curl, CURLOPT_TIMEOUT, ask->taker ? 0L : ANSWER_SECONDS);
    CURLcode code = ready ? curl_easy_perform(call->curl) : CURLE_OUT_OF_MEMORY;
    curl_easy_setopt(call->curl, CURLOPT_ERRORBUFFER, NULL);
    if (ask->ended) {
        status = CLI_DONE;
    } else if (reply.too_large) {
        status = cli_fail(CLI_FAILED, "the answer is larger than %zu MiB: ask for less", ANSWER_BYTES_MAX >> 20);
    } else if (code == CURLE_OUT_OF_MEMORY || reply.body.failed) {
        status = cli_fail(CLI_FAILED, "out of memory");
    } else if (code != CURLE_OK) {
        status = tell_unreached(call, code, why);
    } else {
        status = take_reply(call, &reply, ret_json);
    }
    curl_slist_free_all(headers);
    free(body);
    buf_deinit(&url);
    buf_deinit(&reply.body);
    return status;
}

void remote_hang_up(struct remote_call *call)
{
    if (call->curl) {
        curl_easy_cleanup(call->curl);
    }
    call->curl = NULL;
}

/* store_command.c -- ternctl store: is it whole, a copy of it while the node runs, and back again. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "broker/cli/cli.h"
#include "broker/group/snapshot.h"
#include "proto/base/log.h"
#include "storage/store_lmdb.h"

/* What is in a store. */
struct census {
    struct record_world world;
    uint64_t sessions, subscriptions, queued, retained, groups, batches, commands, first_lsn, last_lsn, damaged;
    bool gap;
};

static bool see_row(void *arg, struct slice key, struct slice value)
{
    struct census *c = arg;
    struct snapshot_session session;
    struct queue_entry entry;
    struct message *message = NULL;
    uint64_t lsn, digest;
    int rc = key.len < 3 ? -EBADMSG : 0;

    switch (rc == 0 ? key.ptr[2] : 0) {
    case SNAPSHOT_SESSION:
        rc = snapshot_get_session(value, &c->world, &session);
        if (rc == 0) {
            c->sessions++;
            c->subscriptions += session.subscription_count + session.share_count;
            will_free(session.will);
            principal_unref(session.principal);
        }
        break;
    case SNAPSHOT_QUEUE:
        rc = snapshot_get_entry(value, &c->world, &entry);
        if (rc == 0) {
            c->queued++;
            message_unref(entry.message);
            free(entry.extra);
        }
        break;
    case SNAPSHOT_RETAINED:
        rc = snapshot_get_retained(value, &c->world, &message);
        c->retained += rc == 0;
        message_unref(message);
        break;
    case SNAPSHOT_APPLIED:
        rc = snapshot_get_applied(value, &lsn, &digest);
        c->groups += rc == 0;
        break;
    default:
        rc = -EBADMSG;
    }
    c->damaged += rc != 0;
    return true;
}

static bool see_batch(void *arg, uint64_t lsn, struct slice bytes)
{
    struct census *c = arg;
    struct record_reader reader;
    struct record record;
    int rc = record_open(&reader, bytes, &c->world), more = 0;

    c->gap |= c->batches > 0 && lsn != c->last_lsn + 1;
    c->first_lsn = c->batches++ == 0 ? lsn : c->first_lsn;
    c->last_lsn = lsn;
    while (rc == 0 && (more = record_next(&reader, &record)) > 0) {
        c->commands++;
        if (record.command.type == COMMAND_CLAIM) {
            will_free(record.command.claim.will);
        }
    }
    record_close(&reader);
    c->damaged += rc != 0 || more < 0;
    return true;
}

static int verify(const char *dir)
{
    struct store_refusal refusal;
    struct store *store;
    struct census c = {0};

    if (store_lmdb_open_readonly(dir, &store, &refusal) != 0) {
        return cli_fail(CLI_FAILED, "%s", refusal.sentence);
    }
    if (user_rates_new(&c.world.rates) != 0) {
        store_close(store);
        return cli_fail(CLI_FAILED, "out of memory");
    }
    c.world.key = &store->identity.hash_key;
    int rc = store_scan(store, SLICE(""), see_row, &c);
    rc = rc ? rc : store_replay(store, see_batch, &c);
    printf("start number        %llu\n", (unsigned long long)store->identity.boot);
    printf("sessions            %llu, at the last checkpoint\n", (unsigned long long)c.sessions);
    printf("subscriptions       %llu\n", (unsigned long long)c.subscriptions);
    printf("queued messages     %llu\n", (unsigned long long)c.queued);
    printf("retained messages   %llu\n", (unsigned long long)c.retained);
    printf("log                 %llu batches, %llu to %llu, of %llu commands since\n", (unsigned long long)c.batches,
           (unsigned long long)c.first_lsn, (unsigned long long)c.last_lsn, (unsigned long long)c.commands);
    store_close(store);
    user_rates_free(c.world.rates);
    if (rc) {
        return cli_fail(CLI_FAILED, "%s cannot be read to its end: %s", dir, strerror(-rc));
    }
    if (c.damaged > 0 || c.gap) {
        return cli_fail(CLI_FAILED, "%s: %llu records are damaged%s", dir, (unsigned long long)c.damaged,
                        c.gap ? ", and some of the log are missing" : "");
    }
    printf("every record is whole\n");
    return CLI_DONE;
}

static int copy(const char *from, const char *to)
{
    struct store_refusal refusal;

    if (store_lmdb_copy(from, to, &refusal) != 0) {
        return cli_fail(CLI_FAILED, "%s", refusal.sentence);
    }
    printf("%s is a copy of %s; it is that node's: start one of the two\n", to, from);
    return CLI_DONE;
}

int store_main(int argc, char **argv)
{
    static const struct option none[] = {{0}};

    if (cli_option(argc, argv, none) != -1) {
        return CLI_ARGUMENTS;
    }
    const char *what = optind < argc ? argv[optind] : "";
    int rest = argc - optind - 1;
    log_setup(STDERR_FILENO, LOG_ERROR, LOG_TEXT);
    if (strcmp(what, "verify") == 0 && rest == 1) {
        return verify(argv[optind + 1]);
    }
    if ((strcmp(what, "backup") == 0 || strcmp(what, "restore") == 0) && rest == 2) {
        return copy(argv[optind + 1], argv[optind + 2]);
    }
    return cli_fail(CLI_ARGUMENTS, "say `verify DIRECTORY`, `backup DIRECTORY TO` or `restore FROM DIRECTORY`");
}

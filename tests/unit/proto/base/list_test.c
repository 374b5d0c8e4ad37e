/* list_test.c -- the intrusive ring. */
#include "proto/base/list.h"
#include "tests/lib/unit.h"

struct thing {
    int number;
    struct list node;
};

static struct thing things[4] = {{.number = 1}, {.number = 2}, {.number = 3}, {.number = 4}};

static int pop_number(struct list *head)
{
    struct list *node = list_pop(head);
    return node ? CONTAINER_OF(node, struct thing, node)->number : 0;
}

static void test_order(void)
{
    struct list head;
    list_init(&head);
    CHECK(list_empty(&head));
    CHECK(list_pop(&head) == NULL);
    for (int i = 0; i < 4; i++) {
        list_append(&head, &things[i].node);
    }
    list_remove(&things[1].node);
    list_remove(&things[1].node); /* allowed: it is in no list now */
    CHECK(pop_number(&head) == 1);
    CHECK(pop_number(&head) == 3);
    CHECK(pop_number(&head) == 4);
    CHECK(list_empty(&head));
}

static void test_splice(void)
{
    struct list a, b;
    list_init(&a);
    list_init(&b);
    list_append(&a, &things[0].node);
    list_splice(&a, &b);
    CHECK(a.next == a.prev);
    list_append(&b, &things[1].node);
    list_append(&b, &things[2].node);
    list_splice(&a, &b);
    CHECK(list_empty(&b));
    CHECK(pop_number(&a) == 1);
    CHECK(pop_number(&a) == 2);
    CHECK(pop_number(&a) == 3);
    CHECK(pop_number(&a) == 0);
}

UNIT_MAIN("proto/base/list", {"order", test_order}, {"splice", test_splice})

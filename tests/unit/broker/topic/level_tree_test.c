/* level_tree_test.c -- paths made, found, walked in order and pruned. */
#include "broker/topic/level_tree.h"
#include "tests/lib/make_message.h"
#include "tests/lib/unit.h"

#include <stdio.h>
#include <stdlib.h>

struct mark {
    struct level_node node; /* first */
    unsigned used;
};

static struct level_tree tree_new(void)
{
    struct level_tree t;
    CHECK(level_tree_init(&t, &test_key, sizeof(struct mark)) == 0);
    return t;
}

static struct mark *make(struct level_tree *t, const char *path)
{
    struct mark *m = (struct mark *)level_tree_make(t, slice_str(path));
    CHECK(m != NULL);
    return m;
}

static bool unused(const struct level_node *node)
{
    return ((const struct mark *)node)->used == 0;
}

static const struct {
    const char *path;
    const char *levels[6]; /* up to NULL */
} paths[] = {
    {"a", {"a"}},
    {"a/b", {"a", "b"}},
    {"/", {"", ""}},
    {"/a", {"", "a"}},
    {"a/", {"a", ""}},
    {"a//b", {"a", "", "b"}},
    {"+/b/#", {"+", "b", "#"}},
    {"$SYS/broker", {"$SYS", "broker"}},
    {"a/a/a/a/a", {"a", "a", "a", "a", "a"}},
    {"b/a", {"b", "a"}}, /* the same level below another parent is another node */
};

static void test_paths(void)
{
    struct level_tree t = tree_new();

    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        struct mark *end = make(&t, paths[i].path);
        const struct level_node *node = t.root;
        for (size_t k = 0; paths[i].levels[k]; k++) {
            const struct level_node *child = level_tree_child(&t, node, slice_str(paths[i].levels[k]));
            CHECK_CASE(paths[i].path, child != NULL);
            CHECK_CASE(paths[i].path, child->parent == node);
            CHECK_CASE(paths[i].path, slice_eq(level_of(child), slice_str(paths[i].levels[k])));
            node = child;
        }
        CHECK_CASE(paths[i].path, node == &end->node);
        CHECK_CASE(paths[i].path, end->used == 0); /* zeroed, and no other path's end */
        end->used = 1;
    }
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        CHECK_CASE(paths[i].path, make(&t, paths[i].path)->used == 1); /* found, not made again */
    }
    level_tree_deinit(&t);
}

static void test_not_there(void)
{
    struct level_tree t = tree_new();

    CHECK(level_tree_child(&t, t.root, SLICE("a")) == NULL);
    CHECK(level_tree_child(&t, t.root, SLICE("")) == NULL);
    const struct level_node *b = &make(&t, "a/b")->node;
    CHECK(level_tree_child(&t, t.root, SLICE("b")) == NULL);
    CHECK(level_tree_child(&t, t.root, SLICE("a/b")) == NULL);
    CHECK(level_tree_child(&t, t.root, SLICE("")) == NULL);
    CHECK(level_tree_child(&t, b, SLICE("a")) == NULL);
    CHECK(level_tree_child(&t, b->parent, SLICE("B")) == NULL);
    level_tree_deinit(&t);
}

/* Siblings stand in the order in which they came, and one that leaves and comes again stands last. */
static void test_sibling_order(void)
{
    struct level_tree t = tree_new();
    char path[16], order[64] = "";

    for (int i = 0; i < 5; i++) {
        snprintf(path, sizeof(path), "x/%d", i);
        make(&t, path);
    }
    level_tree_prune(&t, &make(&t, "x/1")->node, unused, NULL);
    level_tree_prune(&t, &make(&t, "x/4")->node, unused, NULL);
    make(&t, "x/1");
    struct level_node *x = level_tree_child(&t, t.root, SLICE("x"));
    for (struct level_node *n = level_first_child(x); n; n = level_next(n)) {
        strncat(order, (const char *)n->level, n->level_len);
    }
    CHECK(strcmp(order, "0231") == 0);
    CHECK(level_next(x) == NULL);
    CHECK(level_first_child(level_first_child(x)) == NULL);
    level_tree_deinit(&t);
}

static char left[64];

static void note_leaving(struct level_tree *tree, struct level_node *node)
{
    CHECK(level_tree_child(tree, node->parent, level_of(node)) == node); /* still in its place */
    CHECK(list_empty(&node->children));
    strncat(left, (const char *)node->level, node->level_len);
}

static const struct {
    const char *name, *keep, *used, *prune, *gone;
    uint32_t nodes; /* left */
} prunes[] = {
    {"a whole branch", "z", NULL, "a/b/c", "cba", 1},
    {"up to a used node", "z", "a/b", "a/b/c", "c", 3},
    {"up to a fork", "a/b/d", NULL, "a/b/c", "c", 3},
    {"up to the fork at its parent", "a/d", NULL, "a/b/c", "cb", 2},
    {"not a node that is used itself", "z", "a/b/c", "a/b/c", "", 4},
    {"not a node with children", "a/b/c/d", NULL, "a/b", "", 4},
};

static void test_prune(void)
{
    for (size_t i = 0; i < COUNT_OF(prunes); i++) {
        struct level_tree t = tree_new();
        struct mark *keep = make(&t, prunes[i].keep), *end = make(&t, prunes[i].prune);
        keep->used = 1;
        if (prunes[i].used) {
            make(&t, prunes[i].used)->used = 1;
        }
        left[0] = 0;
        level_tree_prune(&t, &end->node, unused, note_leaving);
        CHECK_CASE(prunes[i].name, strcmp(left, prunes[i].gone) == 0);
        CHECK_CASE(prunes[i].name, t.edges.count == prunes[i].nodes);
        CHECK_CASE(prunes[i].name, make(&t, prunes[i].keep) == keep);
        level_tree_deinit(&t);
    }
}

/* Pruning the root is allowed and does nothing: an empty tree stays one. */
static void test_prune_root(void)
{
    struct level_tree t = tree_new();

    level_tree_prune(&t, t.root, unused, NULL);
    CHECK(t.root != NULL);
    CHECK(make(&t, "a") != NULL);
    level_tree_deinit(&t);
}

/* One node with many children is found as fast as one with few; the tree is empty again after all have gone. */
static void test_many_children(void)
{
    struct level_tree t = tree_new();
    static struct mark *marks[20000];
    char path[32];

    for (size_t i = 0; i < COUNT_OF(marks); i++) {
        snprintf(path, sizeof(path), "devices/%zu/state", i);
        marks[i] = make(&t, path);
        marks[i]->used = (unsigned)i + 1;
    }
    CHECK(t.edges.count == 1 + 2 * COUNT_OF(marks));
    bool found = true;
    for (size_t i = 0; i < COUNT_OF(marks); i++) {
        snprintf(path, sizeof(path), "devices/%zu/state", i);
        found &= make(&t, path) == marks[i] && marks[i]->used == i + 1;
    }
    CHECK(found);
    for (size_t i = 0; i < COUNT_OF(marks); i++) {
        size_t pick = i * 7919 % COUNT_OF(marks);
        marks[pick]->used = 0;
        level_tree_prune(&t, &marks[pick]->node, unused, NULL);
    }
    CHECK(t.edges.count == 0);
    CHECK(list_empty(&t.root->children));
    level_tree_deinit(&t);
}

UNIT_MAIN("broker/topic/level_tree", {"paths", test_paths}, {"not there", test_not_there},
          {"sibling order", test_sibling_order}, {"prune", test_prune}, {"prune root", test_prune_root},
          {"many children", test_many_children})

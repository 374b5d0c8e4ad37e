/* level_tree.h -- a tree of topic levels: `a/b/+` is a path of three nodes.
 *
 * Why: wildcard filters and retained topics are both found by walking levels. All edges of a tree lie in one table
 * keyed by (parent, level), so that a node with one child costs no table of its own, and one with a million is found as
 * fast. Siblings are linked in the order in which they came, so that a walk can be interrupted and taken up again. The
 * node is embedded, first, in the user's own struct. Single-threaded. */
#ifndef TERN_BROKER_TOPIC_LEVEL_TREE_H
#define TERN_BROKER_TOPIC_LEVEL_TREE_H

#include "proto/base/hash.h"
#include "proto/base/list.h"
#include "proto/base/map.h"

struct level_node {
    struct level_node *parent; /* NULL: the root */
    struct list children;      /* of level_node.in_parent */
    struct list in_parent;
    uint64_t hash; /* of the edge */
    uint16_t level_len;
    uint8_t *level; /* inside the same allocation */
};

struct level_tree {
    const struct hash_key *key; /* borrowed */
    size_t node_bytes;          /* of the user's struct; it is zeroed at first */
    struct map edges;
    struct level_node *root; /* owned */
};

int level_tree_init(struct level_tree *tree, const struct hash_key *key, size_t node_bytes); /* 0 or -ENOMEM */
void level_tree_deinit(struct level_tree *tree); /* frees every node that is left */

/* The child of a node for one level, or NULL. */
struct level_node *level_tree_child(const struct level_tree *tree, const struct level_node *parent, struct slice level);

/* The node of a whole path, made with all that is missing on the way. NULL when memory is out; nothing is left behind
 * then. */
struct level_node *level_tree_make(struct level_tree *tree, struct slice path);

/* Take a node out and free it, and then each parent that has become childless, as long as `unused` says yes to it.
 * `leaving` (may be NULL) is told of each node while it is still in its place. Nodes with children stay. */
void level_tree_prune(struct level_tree *tree, struct level_node *node, bool (*unused)(const struct level_node *),
                      void (*leaving)(struct level_tree *tree, struct level_node *node));

static inline struct slice level_of(const struct level_node *node)
{
    return slice_of(node->level, node->level_len);
}

/* The sibling that came next, or NULL. */
static inline struct level_node *level_next(const struct level_node *node)
{
    struct list *next = node->in_parent.next;
    return next == &node->parent->children ? NULL : CONTAINER_OF(next, struct level_node, in_parent);
}

static inline struct level_node *level_first_child(const struct level_node *node)
{
    struct list *first = node->children.next;
    return first == &node->children ? NULL : CONTAINER_OF(first, struct level_node, in_parent);
}

#endif

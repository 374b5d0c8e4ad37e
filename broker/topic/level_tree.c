#include "broker/topic/level_tree.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "proto/mqtt/topic.h"

struct edge {
    const struct level_node *parent;
    struct slice level;
};

static uint64_t edge_hash(const struct level_tree *tree, const struct level_node *parent, struct slice level)
{
    return hash_keyed(tree->key, level) ^ hash_mix((uint64_t)(uintptr_t)parent);
}

static bool is_edge(const void *value, const void *key)
{
    const struct level_node *node = value;
    const struct edge *edge = key;
    return node->parent == edge->parent && slice_eq(level_of(node), edge->level);
}

static struct level_node *node_new(struct level_tree *tree, struct level_node *parent, struct slice level)
{
    struct level_node *node = calloc(1, tree->node_bytes + level.len);
    if (!node) {
        return NULL;
    }
    node->parent = parent;
    node->level = (uint8_t *)node + tree->node_bytes;
    node->level_len = (uint16_t)level.len;
    if (level.len > 0) {
        memcpy(node->level, level.ptr, level.len);
    }
    list_init(&node->children);
    list_init(&node->in_parent);
    return node;
}

int level_tree_init(struct level_tree *tree, const struct hash_key *key, size_t node_bytes)
{
    *tree = (struct level_tree){.key = key, .node_bytes = node_bytes};
    tree->root = node_new(tree, NULL, slice_of(NULL, 0));
    return tree->root ? 0 : -ENOMEM;
}

void level_tree_deinit(struct level_tree *tree)
{
    struct level_node *node;

    for (size_t i = 0; (node = map_next(&tree->edges, &i)) != NULL;) {
        free(node);
    }
    map_deinit(&tree->edges);
    free(tree->root);
    tree->root = NULL;
}

struct level_node *level_tree_child(const struct level_tree *tree, const struct level_node *parent, struct slice level)
{
    struct edge edge = {parent, level};

    if (list_empty(&parent->children)) {
        return NULL;
    }
    return map_find(&tree->edges, edge_hash(tree, parent, level), is_edge, &edge);
}

static struct level_node *add_child(struct level_tree *tree, struct level_node *parent, struct slice level)
{
    struct level_node *child = node_new(tree, parent, level);
    if (!child) {
        return NULL;
    }
    child->hash = edge_hash(tree, parent, level);
    if (map_add(&tree->edges, child->hash, child) != 0) {
        free(child);
        return NULL;
    }
    list_append(&parent->children, &child->in_parent);
    return child;
}

static void remove_leaf(struct level_tree *tree, struct level_node *node)
{
    assert(list_empty(&node->children));
    bool there = map_remove(&tree->edges, node->hash, node);
    assert(there);
    list_remove(&node->in_parent);
    free(node);
}

struct level_node *level_tree_make(struct level_tree *tree, struct slice path)
{
    struct level_node *node = tree->root, *old = tree->root; /* old: the last one that was there before */
    struct slice level;
    bool done = false;

    while (mqtt_level_next(&path, &done, &level)) {
        struct level_node *child = level_tree_child(tree, node, level);
        if (child) {
            node = old = child;
            continue;
        }
        child = add_child(tree, node, level);
        if (!child) {
            while (node != old) {
                struct level_node *parent = node->parent;
                remove_leaf(tree, node);
                node = parent;
            }
            return NULL;
        }
        node = child;
    }
    return node;
}

void level_tree_prune(struct level_tree *tree, struct level_node *node, bool (*unused)(const struct level_node *),
                      void (*leaving)(struct level_tree *tree, struct level_node *node))
{
    while (node != tree->root && list_empty(&node->children) && unused(node)) {
        struct level_node *parent = node->parent;
        if (leaving) {
            leaving(tree, node);
        }
        remove_leaf(tree, node);
        node = parent;
    }
}

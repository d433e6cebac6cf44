// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// The maps. They are made and pinned by the loader before this is compiled: PINS is the directory,
// so that a new program finds the entries of the one it replaces. Values that are replaced while
// packets read them are in hashes without preallocation: an element is freed after a grace period,
// and a reader sees the old one or the new one, never half of each.
#ifndef SRV6DMM_MAPS_H
#define SRV6DMM_MAPS_H

#include "layout.h"
#include "reasons.h"

BPF_F_TABLE("array:" PINS "/config", u32, struct config, config, 1, 0);
BPF_F_TABLE("hash:" PINS "/ports", struct port_key, struct port, ports, 256, 0);
BPF_F_TABLE("hash:" PINS "/prefixes", u64, struct steer, prefixes, MAX_PREFIXES,
            BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash:" PINS "/prefixes4", __be32, struct steer, prefixes4, MAX_PREFIXES,
            BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash:" PINS "/flows", struct flow_key, struct steer, flows, MAX_FLOWS,
            BPF_F_NO_PREALLOC);
BPF_F_TABLE("lpm_trie:" PINS "/foreign", struct foreign_key, struct steer, foreign, MAX_FOREIGN,
            BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash:" PINS "/paths", u32, struct path, paths, MAX_PATHS, BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash:" PINS "/deliveries", u64, struct delivery, deliveries, MAX_PREFIXES,
            BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash:" PINS "/bindings", struct binding_key, u32, bindings, MAX_BINDINGS,
            BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash:" PINS "/sids", struct in6, struct sid, sids, MAX_SIDS, BPF_F_NO_PREALLOC);
BPF_F_TABLE("percpu_array:" PINS "/counters", u32, struct counter, counters, MAX_COUNTERS, 0);
BPF_F_TABLE("percpu_array:" PINS "/reasons", u32, u64, reasons, MAX_REASONS, 0);
BPF_F_TABLE("lru_hash:" PINS "/quiet", u64, u64, quiet, 4096, 0);

struct events_table_t {
    int key;
    u32 leaf;
    int (*ringbuf_output)(void *, u64, u64);
    u32 max_entries;
};
__attribute__((section("maps/ringbuf:" PINS "/events"))) struct events_table_t events = {
    .max_entries = 64};

#endif

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// The maps. They are made and pinned by the loader, which puts their descriptors into the
// instructions: a new program finds the entries of the one it replaces, and the sizes here mean
// nothing. Values that are replaced while packets read them are in hashes without preallocation:
// an element is freed after a grace period, and a reader sees the old one or the new one, never
// half of each. Arrays are looked into without a call; an element of theirs is written only while
// nothing names it, or in an order that leaves it whole for every reader.
#ifndef SRV6DMM_MAPS_H
#define SRV6DMM_MAPS_H

#include "layout.h"
#include "reasons.h"

BPF_F_TABLE("array", u32, struct config, config, 1, 0);
BPF_F_TABLE("hash", struct port_key, struct port, ports, 256, 0);
BPF_F_TABLE("array", u32, struct port, untagged, MAX_UNTAGGED, 0);
BPF_F_TABLE("hash", u64, struct steer, prefixes, 1,
            BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", __be32, struct steer, prefixes4, 1,
            BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", struct flow_key, struct flow, flows, 1, BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", struct ruled_key, struct ruleset, ruled, 1,
            BPF_F_NO_PREALLOC);
BPF_F_TABLE("lpm_trie", struct foreign_key, struct steer, foreign, 1,
            BPF_F_NO_PREALLOC);
BPF_F_TABLE("array", u32, struct path, paths, 1, 0);
BPF_F_TABLE("array", u32, struct hop, hops, MAX_HOPS, 0);
BPF_F_TABLE("hash", u64, u32, routes, 1, BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", u64, struct delivery, deliveries, 1,
            BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", struct binding_key, u32, bindings, 1,
            BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", struct in6, struct sid, sids, 1, BPF_F_NO_PREALLOC);
BPF_F_TABLE("percpu_array", u32, struct counter, counters, 1, 0);
BPF_F_TABLE("percpu_array", u32, u64, reasons, MAX_REASONS, 0);
BPF_F_TABLE("lru_hash", u64, u64, quiet, 4096, 0);

BPF_RINGBUF_OUTPUT(events, 1);

#endif

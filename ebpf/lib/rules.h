// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Flow rules: which one decides on a packet. As the kernel's rules do: of those that match, the one
// of the smallest order, whichever prefix it is of.
#ifndef SRV6DMM_RULES_H
#define SRV6DMM_RULES_H

#include "encap.h"

// What rules look at beside the addresses.
struct upper_fields {
    u32 protocol;
    u32 dscp;
    u32 portless; // flags of the rules that cannot match, for want of ports
    u32 source_port;
    u32 destination_port;
    __be32 ports; // both, as on the wire
};

// `steer` is a copy: a rule's place in its set would make the verifier follow each alone.
struct decision {
    struct steer steer;
    u32 order; // NO_ORDER: none matches
    u32 known; // rules of this order and greater may be missing here
    u32 paths[MAX_LISTS];
    u32 sums[MAX_LISTS];
};

static __always_inline int has_ports(u32 protocol)
{
    return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP ||
           protocol == IPPROTO_DCCP || protocol == IPPROTO_UDPLITE;
}

// The same value, of which the verifier knows nothing any more: it walks what follows once, and not
// for each value on its own.
static __always_inline u64 unknown(u64 value, u64 any)
{
    u64 same = any;

    asm volatile("" : "+r"(same));
    return value + any - same;
}

static __always_inline int fields_of(struct __sk_buff *skb, struct packet *packet,
                                     struct upper_fields *fields)
{
    u64 any = packet->source.low;
    u32 at = 0;
    u32 where = upper_layer(skb, packet, &fields->protocol, &at);

    if (where == UPPER_UNKNOWN)
        return 0;
    fields->protocol = unknown(fields->protocol, any);
    fields->dscp = packet->traffic_class >> 2;
    fields->portless = RULE_SOURCE_PORTS | RULE_DESTINATION_PORTS;
    fields->ports = 0;
    at = unknown(at, any);
    if (where == UPPER_HERE && has_ports(fields->protocol) &&
        at + 4 <= packet->offset + packet->length) {
        __be32 *ports = at_offset(skb, at);

        // A helper call costs as much as a rule or two; it reads what is not linear.
        if (at < 0xfff && (void *)(ports + 1) <= (void *)(long)skb->data_end) {
            fields->ports = *ports;
            fields->portless = 0;
        } else if (!bpf_skb_load_bytes(skb, at, &fields->ports, 4)) {
            fields->portless = 0;
        }
    }
    fields->portless = unknown(fields->portless, any);
    fields->ports = unknown(fields->ports, any);
    fields->source_port = bpf_ntohl(fields->ports) >> 16;
    fields->destination_port = bpf_ntohl(fields->ports) & 0xffff;
    return 1;
}

// 0 when a rule matches. Without a branch, so that a set is one path for the verifier and the
// processor: differences under masks, and the sign of what is left to either end of a range.
static __always_inline u64 misses(const struct rule *rule, const struct packet *packet,
                                  const struct upper_fields *fields)
{
    u64 miss = (packet->source.high ^ rule->source.high) & rule->source_mask.high;
    s64 outside;

    miss |= (packet->source.low ^ rule->source.low) & rule->source_mask.low;
    miss |= (packet->destination.high ^ rule->destination.high) & rule->destination_mask.high;
    miss |= (packet->destination.low ^ rule->destination.low) & rule->destination_mask.low;
    miss |= (fields->protocol ^ rule->protocol) & rule->protocol_mask;
    miss |= (fields->dscp ^ rule->dscp) & rule->dscp_mask;
    miss |= fields->portless & rule->flags;
    outside = (s64)fields->source_port - rule->source_first;
    outside |= (s64)rule->source_last - fields->source_port;
    outside |= (s64)fields->destination_port - rule->destination_first;
    outside |= (s64)rule->destination_last - fields->destination_port;
    return miss | (u64)outside >> 63;
}

// The rules of one prefix and direction, as far as they are before what is decided already.
static __always_inline void ask(const struct ruleset *set, u32 uplink, const struct packet *packet,
                                const struct upper_fields *fields, struct decision *decision)
{
    if (set->exact && (!fields->portless || !has_ports(fields->protocol))) {
        struct flow_key key = {
            .source = packet->source, .destination = packet->destination, .uplink = uplink};
        struct flow *flow;

        key.protocol = fields->protocol;
        __builtin_memcpy(&key.source_port, &fields->ports, 4);
        flow = flows.lookup(&key);
        if (flow && flow->order < decision->order) {
            decision->steer = flow->steer;
            decision->order = flow->order;
            decision->sums[0] = 0; // one path, in `steer`
            decision->sums[MAX_LISTS - 1] = 0;
        }
    }
#pragma clang loop unroll(disable)
    for (u32 i = 0; i < MAX_RULES; i++) {
        const struct rule *rule = &set->rules[i];

        if (i >= set->count || rule->order >= decision->order)
            break;
        if (!misses(rule, packet, fields)) {
            decision->steer.action = rule->action;
            decision->steer.path = rule->paths[0];
            decision->steer.counter = rule->counter;
            decision->order = rule->order;
            __builtin_memcpy(decision->paths, rule->paths, sizeof(rule->paths));
            __builtin_memcpy(decision->sums, rule->sums, sizeof(rule->sums));
            break;
        }
    }
    if (set->known < decision->known)
        decision->known = set->known;
}

// A flow's packets have one label, so they have one path.
static __always_inline u32 path_by_weight(struct __sk_buff *skb, const struct packet *packet,
                                          const struct decision *decision)
{
    u64 label = flow_label_of(skb, packet, sizeof(struct ipv6hdr));
    u64 point = label * decision->sums[MAX_LISTS - 1] >> 20;
    u32 path = decision->paths[0];

    if (point >= decision->sums[0])
        path = decision->paths[1];
    if (point >= decision->sums[1])
        path = decision->paths[2];
    if (point >= decision->sums[2])
        path = decision->paths[3];
    return path;
}

// What flow rules make of a packet; 0, or why the kernel's rules must say. `sets`: enum flow_sets,
// those to look into.
static __always_inline u32 decide(struct __sk_buff *skb, struct packet *packet, u32 sets,
                                  struct decision *decision)
{
    struct ruled_key key = {.prefix = packet->destination.high};
    struct ruleset *downlink = 0;
    struct ruleset *uplink = 0;
    struct upper_fields fields;
    u32 nothing;
    u64 any = packet->source.low;

    // With and without a tag, and behind whichever header: from here on that is all one.
    packet->offset = unknown(packet->offset, any) & 0x1f;
    packet->tagged = unknown(packet->tagged, any) & 3;
    packet->next_header = unknown(packet->next_header, any);
    decision->order = NO_ORDER;
    if (sets & FLOWS_DOWNLINK)
        downlink = ruled.lookup(&key);
    if (sets & FLOWS_UPLINK) {
        key.prefix = packet->source.high;
        key.uplink = 1;
        uplink = ruled.lookup(&key);
    }
    if (!downlink) {
        asm volatile(""); // two questions: the verifier lets nobody combine pointers
        if (!uplink)
            return 0;
    }
    if (!fields_of(skb, packet, &fields))
        return REASON_EXTENSIONS;
    nothing = unknown(0, any);
    decision->steer.action = nothing;
    decision->steer.path = nothing;
    decision->steer.counter = nothing;
    decision->order = NO_ORDER - nothing;
    decision->known = NO_ORDER - nothing;
    for (u32 i = 0; i < MAX_LISTS; i++) {
        decision->paths[i] = nothing;
        decision->sums[i] = nothing;
    }
    if (downlink)
        ask(downlink, 0, packet, &fields, decision);
    if (uplink)
        ask(uplink, 1, packet, &fields, decision);
    if (decision->order >= decision->known)
        return decision->known == NO_ORDER ? 0 : REASON_FLOW_RULES;
    if (decision->steer.action == STEER_KERNEL) {
        count(decision->steer.counter, packet->length);
        return REASON_FLOW_RULES;
    }
    if (decision->sums[0] != decision->sums[MAX_LISTS - 1])
        decision->steer.path = path_by_weight(skb, packet, decision);
    return 0;
}

#endif

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// clsact ingress of ports that face mobile nodes or the outside: refuse what may not enter, steer
// what has an entry, leave the rest to the kernel's routes, which know all of it too.

#include "lib/classify.h"
#include "lib/detect.h"
#include "lib/encap.h"
#include "lib/rules.h"

// `dropped`: the reason for it, if the entry says so.
static __always_inline u32 follow(struct __sk_buff *skb, struct packet *packet,
                                  const struct steer *entry, u32 header, u32 dropped)
{
    u32 action = entry->action;

    // A promiscuous device shows us what others will forward.
    if (skb->pkt_type != PACKET_HOST)
        return TO_KERNEL(REASON_OTHER_HOST);
    if (action == STEER_DROP) {
        if (dropped == REASON_FLOW_DROP)
            count(entry->counter, packet->length);
        return DROP(dropped);
    }
    if (packet->hop_limit <= 1)
        return TO_KERNEL(REASON_HOP_LIMIT);
    if (action == STEER_ENCAP) {
        u32 id = entry->path;
        u32 counter = entry->counter;
        struct path *path = paths.lookup(&id);
        u32 result;

        if (!path)
            return TO_KERNEL(REASON_NO_PATH);
        result = encapsulate(skb, packet, path, header);
        if (result == RESULT(TC_ACT_REDIRECT, REASON_STEERED))
            count(counter, packet->length);
        return result;
    }
    if (action == STEER_DELIVER && packet->ethertype == bpf_htons(ETH_P_IPV6)) {
        u64 prefix = packet->destination.high;
        struct delivery *to = deliveries.lookup(&prefix);

        if (!to)
            return TO_KERNEL(REASON_NOT_HERE);
        if (to->mtu && greatest(skb, packet, header) > to->mtu)
            return TO_KERNEL(REASON_OVERSIZE);
        if (unframe(skb, packet, packet->offset + packet->length))
            return TO_KERNEL(REASON_ADJUST_FAILED);
        if (decrement(skb, packet, ETHERNET))
            return DROP(REASON_STORE_FAILED);
        count(entry->counter, packet->length);
        count(to->counter, packet->length);
        return deliver(skb, to);
    }
    return TO_KERNEL(REASON_NO_PATH);
}

static __always_inline u32 from_ipv4(struct __sk_buff *skb, struct packet *packet,
                                     const struct port *port)
{
    u32 reason = parse_ipv4_at(skb, packet, packet->offset);
    struct steer *entry;
    __be32 address;

    if (reason)
        return TO_KERNEL(reason);
    address = packet->destination.low;
    entry = prefixes4.lookup(&address);
    if (!entry)
        return TO_KERNEL(REASON_NO_ENTRY);
    // Nodes are bound by IPv6 prefixes only: no IPv4 source of theirs may go where entries lead.
    if (port->role == PORT_ACCESS)
        return DROP(REASON_SOURCE_UNBOUND);
    if (is_local_scope4(&packet->source))
        return DROP(REASON_SOURCE_INVALID);
    return follow(skb, packet, entry, sizeof(struct iphdr), REASON_NODE_LEFT);
}

static __always_inline u32 from_ipv6(struct __sk_buff *skb, struct packet *packet,
                                     const struct port *port)
{
    u32 reason = parse_addresses(skb, packet, packet->offset);
    const struct steer *entry = 0;
    const struct config *settings;
    u32 dropped = REASON_NODE_LEFT;
    struct decision decision;
    u32 zero = 0;
    u32 sets;

    if (reason)
        return TO_KERNEL(reason);
    reason = parse_length(skb, packet, packet->offset);
    settings = config.lookup(&zero);
    if (!settings)
        return TO_KERNEL(REASON_NO_ENTRY);
    if (is_within(&packet->destination, &settings->sid_block, &settings->sid_block_mask))
        return DROP(REASON_TO_SID_BLOCK);
    if (is_local_scope(&packet->destination) || is_local_scope(&packet->source)) {
        if (port->detect && !reason)
            detect_neighbour_discovery(skb, packet, settings);
        return TO_KERNEL(REASON_LOCAL_SCOPE);
    }
    if (port->role == PORT_ACCESS) {
        struct binding_key key = {
            .prefix = packet->source.high, .ifindex = packet->ifindex, .vlan = packet->vlan};

        __builtin_memcpy(key.mac, packet->mac, ETH_ALEN);
        if (!bindings.lookup(&key)) {
            if (port->detect)
                tell(skb, packet, settings, EVENT_DATA, &packet->source);
            return DROP(REASON_SOURCE_UNBOUND);
        }
    }
    if (reason)
        return TO_KERNEL(reason);
    sets = settings->has_flows;
    if (port->role != PORT_ACCESS)
        sets &= ~FLOWS_UPLINK; // of sources that nobody has checked
    if (sets) {
        reason = decide(skb, packet, sets, &decision);
        if (reason)
            return TO_KERNEL(reason);
        if (decision.order != NO_ORDER) {
            entry = &decision.steer;
            dropped = REASON_FLOW_DROP;
        }
    }
    if (!entry)
        entry = steer_of(packet, settings);
    if (!entry)
        return TO_KERNEL(REASON_NO_ENTRY);
    return follow(skb, packet, entry, sizeof(struct ipv6hdr), dropped);
}

static __always_inline u32 steer_frame(struct __sk_buff *skb)
{
    struct packet packet;
    struct port port;
    u32 reason = parse_link(skb, &packet);

    if (reason)
        return TO_KERNEL(reason);
    port = port_of(skb, &packet);
    if (port.role != PORT_ACCESS && port.role != PORT_OUTSIDE)
        return TO_KERNEL(REASON_NOT_OUR_PORT);
    if (is_stacked(&packet))
        return DROP(REASON_STACKED_TAGS);
    if (packet.ethertype == bpf_htons(ETH_P_IPV6))
        return from_ipv6(skb, &packet, &port);
    if (packet.ethertype == bpf_htons(ETH_P_IP))
        return from_ipv4(skb, &packet, &port);
    return TO_KERNEL(REASON_NOT_IP);
}

int steer(struct __sk_buff *skb)
{
    return conclude(steer_frame(skb));
}

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// clsact ingress of ports that face the domain's routers: packets to a SID of ours.

#include "lib/decap.h"
#include "lib/endpoint.h"

static __always_inline u32 at_sid(struct __sk_buff *skb, struct packet *packet)
{
    u32 reason = parse_addresses(skb, packet, packet->offset);
    const struct config *settings;
    struct routing routing;
    struct sid *sid;
    u32 zero = 0;

    if (reason)
        return TO_KERNEL(reason);
    sid = sids.lookup(&packet->destination);
    settings = config.lookup(&zero);
    if (!sid || !settings)
        return TO_KERNEL(REASON_NO_ENTRY);
    if (skb->pkt_type != PACKET_HOST)
        return TO_KERNEL(REASON_OTHER_HOST);
    // RFC 8754 section 5.1, second level: only the domain's own addresses may speak to a SID.
    if (settings->sid_block_mask.high &&
        !is_within(&packet->source, &settings->sid_block, &settings->sid_block_mask))
        return DROP(REASON_OUTER_SOURCE);
    reason = parse_length(skb, packet, packet->offset);
    if (reason)
        return TO_KERNEL(reason);
    reason = parse_routing(skb, packet, &routing);
    if (reason)
        return TO_KERNEL(reason);
    switch (sid->behavior) {
    case SID_END:
    case SID_END_X:
        return end(skb, packet, &routing, sid, settings);
    case SID_END_DT6:
        return end_dt6(skb, packet, &routing, sid, settings);
    case SID_END_DX4:
        return end_dx4(skb, packet, &routing, sid);
    case SID_END_MAP:
        return end_map(skb, packet, sid, settings);
    }
    return TO_KERNEL(REASON_UNKNOWN_BEHAVIOR);
}

static __always_inline u32 sid_frame(struct __sk_buff *skb)
{
    struct packet packet;
    u32 reason = parse_link(skb, &packet);

    if (reason)
        return TO_KERNEL(reason);
    if (port_of(skb, &packet).role != PORT_CORE)
        return TO_KERNEL(REASON_NOT_OUR_PORT);
    if (is_stacked(&packet))
        return DROP(REASON_STACKED_TAGS);
    if (packet.ethertype != bpf_htons(ETH_P_IPV6))
        return TO_KERNEL(REASON_NOT_IP);
    return at_sid(skb, &packet);
}

int sid(struct __sk_buff *skb)
{
    return conclude(sid_frame(skb));
}

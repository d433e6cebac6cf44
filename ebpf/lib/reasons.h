// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Why a packet was not handled here but left to the kernel, or dropped. Append-only: the numbers
// are names of metrics. Mirrored in srv6dmm/dataplane/fastpath/reasons.py; a test compares them.
#ifndef SRV6DMM_REASONS_H
#define SRV6DMM_REASONS_H

#define MAX_REASONS 64

enum reason {
    // Handled.
    REASON_STEERED = 0,
    REASON_DELIVERED = 1,
    REASON_ENDPOINT = 2,   // End, End.X, End.MAP: sent on with the next segment
    REASON_REDIRECTED = 3, // late packet of a node that has moved on
    // Left to the kernel (TC_ACT_OK).
    REASON_NOT_IP = 4,
    REASON_NOT_OUR_PORT = 5,
    REASON_NO_ENTRY = 6,     // no prefix, no flow, no SID: plain routing
    REASON_LOCAL_SCOPE = 7,  // multicast, link-local or unspecified address
    REASON_HOP_LIMIT = 8,    // Time Exceeded is the kernel's to send
    REASON_OVERSIZE = 9,     // so is Packet Too Big
    REASON_TRUNCATED = 10,   // shorter than its headers or its payload length say
    REASON_JUMBO = 11,       // payload length 0 with a hop-by-hop header (RFC 2675)
    REASON_EXTENSIONS = 12,  // more extension headers than we look at
    REASON_FRAGMENT = 13,    // of an outer packet to a SID
    REASON_BAD_SRH = 14,     // Segments Left or Last Entry that cannot be (RFC 8754 4.3.1.1)
    REASON_SRH_TLV = 15,     // TLVs: an HMAC is the kernel's to check
    REASON_SRH_FLAGS = 16,   // O-flag (RFC 9259) or an unknown one
    REASON_SEGMENTS_LEFT = 17, // decapsulating SID with Segments Left above 0, End with 0
    REASON_INNER = 18,       // decapsulating SID with another payload than its behavior takes
    REASON_UNKNOWN_BEHAVIOR = 19,
    REASON_NO_PATH = 20,     // steer entry without its path (an update under way)
    REASON_NOT_HERE = 21,    // decapsulated destination is on no port of ours
    REASON_ADJUST_FAILED = 22,
    REASON_REDIRECT_FAILED = 23,
    REASON_IP_OPTIONS = 24,
    REASON_NOT_IN_PLACE = 25, // late packet whose path needs more than another destination
    REASON_OTHER_HOST = 26,   // the frame is to another link-layer address
    REASON_FLOW_RULES = 27,   // a flow rule of its prefix that only the kernel can follow
    REASON_HOP_DOWN = 28,     // the next hop's device has no carrier
    REASON_BAD_CHECKSUM = 29, // of an IPv4 header
    // Dropped (TC_ACT_SHOT).
    REASON_TO_SID_BLOCK = 32,   // from outside to a SID (RFC 8754 section 5.1)
    REASON_SOURCE_UNBOUND = 33, // RFC 5213 section 6.10.5
    REASON_NODE_LEFT = 34,      // RFC 5213 section 5.3.5
    REASON_OUTER_SOURCE = 35,   // to a SID from an address that is none of the domain's
    REASON_ECN = 36,            // RFC 6040: CE outside, not-ECT inside
    REASON_STORE_FAILED = 37,   // a header was half written
    REASON_FLOW_DROP = 38,      // a flow rule whose policy has no path says so
    REASON_STACKED_TAGS = 39,   // a VLAN tag within a VLAN tag
    REASON_SOURCE_INVALID = 40, // IPv4 from a source that is nobody's (RFC 1812 section 5.3.7)
};

#endif

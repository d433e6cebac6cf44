// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// The maps' keys and values. Mirrored in srv6dmm/dataplane/fastpath/layout.py; the loader refuses
// to compile when a size or an offset differs. A change of any of them is a new pin directory.
#ifndef SRV6DMM_LAYOUT_H
#define SRV6DMM_LAYOUT_H

#include <uapi/linux/bpf.h>
#include <uapi/linux/if_ether.h>
#include <uapi/linux/in6.h>
#include <uapi/linux/ipv6.h>

// Segments in a list at most; the outer header then is 40 + 8 + 6 * 16 = 144 bytes.
#define MAX_SEGMENTS 6
#define MAX_HEADER 144

struct in6 {
    __u64 high; // network byte order, as on the wire
    __u64 low;
};

// Which devices are ours, and what enters there. A VLAN of a device is a port of its own.
struct port_key {
    __u32 ifindex;
    __u32 vlan; // 0: untagged
};

enum port_role {
    PORT_ACCESS = 1,  // mobile nodes: the source must be bound to the port and the node's MAC
    PORT_OUTSIDE = 2, // anybody else outside the SR domain
    PORT_CORE = 3,    // routers of the domain
};

// Ports without a tag are in `untagged` too, by ifindex, as far as it reaches.
#define MAX_UNTAGGED 4096

struct port {
    __u32 role;
    __u32 detect; // 1: RS, DAD and data of unknown sources become events
};

// array[1]
struct config {
    struct in6 sid_block;      // packets to it are refused from outside (RFC 8754 section 5.1)
    struct in6 sid_block_mask; // all ones over the prefix length; zero: no block
    __u32 has_flows;           // enum flow_sets: what to look into before `prefixes`
    __u32 has_foreign;         // look into `foreign` after `prefixes`
    __u32 event_gap_ms;        // one event per link-layer address in so many milliseconds
    __u32 locator_length;      // bits, of every locator in `routes`; 0: there are none
};

enum steer_action {
    STEER_ENCAP = 1,
    STEER_DELIVER = 2, // the destination is on a port of this router
    STEER_DROP = 3,    // its node just left (RFC 5213 section 5.3.5), or a flow rule says so
    STEER_KERNEL = 4,  // of flow rules: left to the kernel, which has the same rule
};

// Values of `prefixes` (key: the /64 as u64 in network byte order), `foreign` (LPM) and `prefixes4`
// (key: IPv4 address).
struct steer {
    __u32 action;
    __u32 path;    // key into `paths`, for STEER_ENCAP
    __u32 counter; // index into `counters`
    __u32 reserved;
};

// Flow rules, by the mobile prefix they speak of and the direction: all of them in one element, so
// that they change at once. A packet follows the rule of the smallest order that it matches.
struct ruled_key {
    __u64 prefix; // the /64 in network byte order
    __u32 uplink; // 1: of packets from it, 0: of packets to it
    __u32 part;   // 0: what programs look at. Others keep rules there is no room for in the first
};

enum flow_sets { // there are some in `ruled`
    FLOWS_DOWNLINK = 1,
    FLOWS_UPLINK = 2,
};

#define MAX_RULES 16
#define MAX_LISTS 4
#define NO_ORDER 0xffffffff

enum rule_flags {
    RULE_SOURCE_PORTS = 1,      // names ports: what has none does not match
    RULE_DESTINATION_PORTS = 2,
};

struct rule {
    struct in6 source;
    struct in6 source_mask;
    struct in6 destination;
    struct in6 destination_mask;
    __u32 order;
    __u32 id;      // the plan entry's number, for the agent
    __u32 action;  // STEER_ENCAP, STEER_DROP or STEER_KERNEL
    __u32 counter; // index into `counters`
    __u16 source_first;
    __u16 source_last;
    __u16 destination_first;
    __u16 destination_last;
    __u8 protocol;
    __u8 protocol_mask; // 0: any
    __u8 dscp;
    __u8 dscp_mask; // 0: any
    __u32 flags;
    // Keys into `paths`, and the sums of the weights up to each; those without a path repeat the
    // last sum. A path gets weight / sum of the flows (RFC 9256 section 2.11).
    __u32 paths[MAX_LISTS];
    __u32 sums[MAX_LISTS];
};

struct ruleset {
    __u32 count;
    __u32 exact; // 1: there are rules of it in `flows`
    __u32 known; // rules of this order and greater may be missing: the kernel has them
    __u32 reserved;
    struct rule rules[MAX_RULES]; // by order
};

// A rule that takes one 5-tuple. Ports are 0 for protocols without any.
struct flow_key {
    struct in6 source;
    struct in6 destination;
    __be16 source_port;
    __be16 destination_port;
    __u8 protocol;
    __u8 uplink; // as in the key of its ruleset
    __u8 pad[2];
};

struct flow {
    struct steer steer;
    __u32 order;
    __u32 id;
};

struct foreign_key {
    __u32 length; // prefix length in bits
    __u8 address[16];
};

// Next hops by number: `hop` of paths and SIDs, 0 for none. What the neighbour table says of one is
// here as long as it is reachable; else it is asked for every packet, which costs half as much as
// all the rest.
#define MAX_HOPS 1024

enum hop_state {
    HOP_UNKNOWN = 0,  // its addresses are not known
    HOP_RESOLVED = 1,
    HOP_DOWN = 2,     // its device has no carrier: the kernel's routes know another way
};

struct hop {
    __u32 ifindex;
    __u16 state;    // enum hop_state
    __u16 mtu;      // of the device, octets
    __u8 mac[6];
    __u8 source_mac[6]; // the device's
    __u32 reserved;
    struct in6 next_hop;
};

enum path_flags {
    PATH_REDIRECT = 1, // the last segment alone leads there too: late packets are rewritten in place
};

struct path {
    __u32 ifindex;
    __u16 header_length; // 40, or 48 + 16 * entries of the SRH
    __u16 mtu;           // octets of the greatest outer packet
    __u32 counter;
    __u16 flags;
    __u16 hop;
    struct in6 next_hop; // on the device; a permanent or resolvable neighbour
    struct in6 last;     // the last segment
    // The outer header as it goes out, but for traffic class, flow label, payload length and the
    // SRH's next header: built by whoever writes the entry, patched per packet.
    __u8 header[MAX_HEADER];
};

// key: u64, the /64 in network byte order
struct delivery {
    __u32 ifindex;
    __u32 counter;
    __u8 mac[6];        // the mobile node's
    __u8 source_mac[6]; // the port's
    __u16 flags;        // enum delivery_flags
    __u16 mtu;          // octets of the greatest packet; 0: not looked at
    struct in6 next_hop;
};

enum delivery_flags {
    DELIVER_PEER = 1,   // a veth whose other end is the node itself: straight into it
    DELIVER_DIRECT = 2, // out of the port, with the addresses given here
};

// The sources that may enter at a port. key: struct binding_key
struct binding_key {
    __u64 prefix; // the /64 in network byte order
    __u32 ifindex;
    __u32 vlan;
    __u8 mac[6];
    __u8 pad[2];
};

enum sid_behavior { // IANA "SRv6 Endpoint Behaviors"
    SID_END = 1,
    SID_END_X = 5,
    SID_END_DX6 = 16,
    SID_END_DX4 = 17,
    SID_END_DT6 = 18,
    SID_END_DT4 = 19,
    SID_END_MAP = 40,
};

enum sid_flags {
    SID_PSP = 1,
};

// key: struct in6, the SID
struct sid {
    __u32 behavior;
    __u16 flags;
    __u16 hop;
    __u32 ifindex; // of End.X and End.DX6; 0: left to the kernel
    __u32 counter;
    struct in6 next_hop; // End.X, End.DX6; End.DX4: the IPv4 address in the first four octets
    struct in6 mapped;   // End.MAP (RFC 9433): the SID that replaces this one
};

struct counter { // per-CPU array
    __u64 packets;
    __u64 bytes; // of the packet as it came, without link-layer header
    __u64 last;  // jiffies64 of the newest packet; 0: none yet
};

enum event_kind {
    EVENT_SOLICITATION = 1, // RS
    EVENT_DAD = 2,          // NS from the unspecified address
    EVENT_DATA = 3,         // data of a source that is not bound here
};

struct event { // ring buffer
    __u32 kind;
    __u32 ifindex;
    __u32 vlan;
    __u8 mac[6];
    __u8 pad[2];
    __u8 address[16]; // source; of DAD the target
    __u32 reserved;
};

#endif

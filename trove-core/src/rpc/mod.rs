//! Remote calls and notifications between the control plane and guests: encrypted, in order, at
//! most once.
//!
//! ```text
//!   control plane                                                          guest
//!     RpcClient            --call, resent until replied-->  Transport  --> RpcServer -> RequestHandler
//!     NotificationHandler  <------------------------------  Transport  <-- Notifier
//! ```
//!
//! A [`Transport`] carries opaque frames to [addresses](Address). [`InProcess`] is the transport to
//! guests in this process, `Amqp` (feature `amqp`) the one to remote guests, over RabbitMQ. Both
//! fulfill one contract, which `conformance::transport` tests. It guarantees little, because
//! brokers restart and connections break.
//!
//! [`RpcClient`] and [`RpcServer`] add the guarantees: a frame is accepted only by the receiver it
//! was sealed for, only from the sender it names, and only once. All other frames are dropped,
//! counted by [reason](DropReason) and logged without their content.
//!
//! # Threat model
//!
//! Each instance has a random 256-bit [key](InstanceKey), which its guest and the control plane
//! share. All protection rests on that key; none rests on the broker, its logins or the network.
//!
//! Guarantees on the wire and in queues:
//!
//! - **Confidentiality:** passwords of users and of root, registry logins, other keys, names and
//!   settings.
//! - **Authenticity:** commands that stop, change or remove a server; replies and reports that
//!   become the state of an instance.
//! - **Freshness:** a command that was right yesterday, or is executed twice, may destroy current
//!   data.
//!
//! | attacker | can | cannot |
//! |---|---|---|
//! | **The network** to the broker | do all that the broker can, once it has intercepted a login | do what the broker cannot |
//! | **The broker**, or its administrator | see the 79-byte header, the length and the time of each frame; retain, lose, delay, replay and reorder frames; inject frames; delete logins | read a payload; modify a bit of a frame; have a frame accepted by another receiver, in the other direction, as the reply to another call, twice, after a later one, or in another session, before or after a restart of either side, of both, or of itself |
//! | **Another guest**, with its key and login | speak for its own instance; read its own queue, and publish to the control plane's queue for it | use the queues of other instances: the broker denies access. If the broker does not, the guest lacks the key, and is in the position of the broker |
//! | **A compromised guest**: its machine, key and login | act as that guest and lie about its instance; learn what the control plane sends it, which is what concerns its instance and the registry login of its version; decrypt all earlier messages to it that somebody recorded; reply late, within the limits of the operation that waits | speak for another instance; learn another instance's secrets; fill more than the control plane's queue for it, and a bounded part of the log; have texts displayed or stored that are too long or contain control characters; prevent its deletion, for which it is asked for 15 s; influence a decision with a timestamp: none depends on a time that a guest sent |
//! | **The holder of a guest's broker login** only | hold 16 connections; learn whether a queue exists and how many frames wait in it, by declaring it passively; fill the control plane's queue for that guest; while the guest is disconnected, consume the guest's queue, and keep the guest out by connecting first | do what the broker cannot |
//! | **The holder of a previous key**, once the new one is in use | decrypt recorded messages that were sealed with it: see rotation below | be accepted by either side |
//! | **The holder of a copy of the store** | see which identities exist | decrypt a key without the [master key](crate::secret) |
//!
//! The sender of a frame never learns why it was dropped: the [reason](DropReason) is only counted
//! and logged here. A header is not trusted before its frame has been opened; until then it selects
//! the key to try, and nothing else. A dropped frame changes no state.
//!
//! Replaying is harmless with one deliberate exception: an attacker who replays an old `Hello` or
//! `Wake` to its receiver makes it prepare another session, which only the real peer can use and in
//! which pending calls are resent. Replaying these endlessly prevents new sessions from being
//! established, which the broker could achieve by delivering nothing.
//!
//! ## What is not protected
//!
//! - **Traffic analysis.** Lengths, times and headers are not encrypted: who communicates with
//!   whom, how often, what is a call, a reply or a notification, when a side restarted and when a
//!   key was rotated. Payloads are not padded.
//! - **Loss.** A gap in the sequence numbers is not reported: skipped frames were lost, for
//!   whatever reason. Loss shows only as a call that fails with `Timeout` and an instance that does
//!   not report. Reports are repeated, calls are resent, and every operation is a row in the store
//!   that is resumed, so nothing is stuck; but an attacker on the wire decides whether anything
//!   happens.
//! - **Delay.** Within its session a frame may arrive late. The epoch in it decides whether it
//!   still takes effect: a guest rejects a caller that another one has superseded.
//! - **Broker logins, without TLS.** Without [TLS](CaCertificates), logins of guests and of the
//!   control plane, and the administrator's at the management API, can be intercepted on the
//!   network to the broker. Each start logs a warning.
//! - **Forward secrecy.** Keys are not agreed on by Diffie-Hellman: the holder of an instance's key
//!   can decrypt all recorded sessions under it, and impersonate either side to the other, until
//!   the key is rotated.
//! - **Compromise recovery by rotation.** Rotation shuts out an attacker who has the key but not
//!   the wire. The new key is sent under the old one, so an attacker who has the old key and the frame with
//!   the new key has the new key. Rotation is for keys that may be lost one day, not for one that
//!   was lost.
//! - **Delivery of the first key.** It reaches the guest in a file that its platform writes.
//!   A process that can read that file, or the memory of the guest, can act as the guest.
//! - **A machine that runs twice.** Nonce counters are in memory. If a process of either side is
//!   copied while it runs and both copies continue (a snapshot of a virtual machine with its
//!   memory), two payloads are sealed under one key and nonce, which reveals both and allows
//!   forgery. Restart the agent in such a copy.
//! - **Oversized messages.** A broker may deliver messages larger than a frame. They are dropped,
//!   but only after they were received: limit them at the broker (RabbitMQ: `max_message_size` of 1
//!   MiB).
//!
//! ## The envelope
//!
//! A frame is a header of 79 bytes, an encrypted payload and a tag of 16 bytes; 1 MiB at most.
//! Integers are big-endian.
//!
//! | bytes | field | |
//! |---|---|---|
//! | 0 | version | 1 |
//! | 1 | kind | 0 `Wake`, 1 `Hello`, 2 `Welcome`, 3 `Confirm`, 4 `Call`, 5 `Reply`, 6 `Notification` |
//! | 2 | direction | 0 to the guest, 1 to the control plane |
//! | 3..7 | key id | the number of the instance's key, from 1 |
//! | 7..23 | instance | its UUID |
//! | 23..39 | sender | the sender's token for the session |
//! | 39..55 | receiver | the receiver's token for the session; zero in `Wake` and `Hello` |
//! | 55..63 | sequence | 1 for the first frame under this key, incremented for each frame |
//! | 63..79 | correlation | the UUID of a call, in `Call` and `Reply`; zero in others |
//! | 79..n-16 | payload | encrypted. `Wake` and `Welcome`: the boot id, 16 random bytes that identify this run of the guest; `Hello` and `Confirm`: empty; others: JSON |
//! | n-16..n | tag | |
//!
//! - **Key.** 32 bytes of HKDF-SHA256; input: the instance's key; salt: `sender`, `receiver`; info:
//!   `"trove rpc 1"`, direction, key id, instance, as in the header. Sender and receiver each
//!   generate a token of 128 bits with the random source of the operating system, so no two
//!   sessions and no two directions share a key, unless both tokens repeat.
//! - **Cipher.** AES-256-GCM with a tag of 128 bits. Nonce: four zero bytes and the sequence. Each
//!   key has one counter, which is never copied, and is incremented before it is used. Additional
//!   data: all 79 bytes of the header.
//! - **Order.** Within a session and direction, only a sequence above the last accepted one is
//!   accepted.
//! - **Commitment.** GCM does not commit to a key. Nothing here relies on that: a frame is tried
//!   with one key, which its header names and its additional data contains.
//!
//! ## The session
//!
//! ```text
//!   guest                                          control plane
//!     |  Wake    (g1, -)                                 |    a guest announces that it has no session
//!     |------------------------------------------------->|
//!     |                                    Hello (c1, -) |    an offer, with a new token
//!     |<-------------------------------------------------|
//!     |  Welcome (g2, c1)                                |    accepted, with a new token
//!     |------------------------------------------------->|    the session of c1 and g2 is established
//!     |                                Confirm  (c1, g2) |    only now does the guest know that the offer was fresh
//!     |<-------------------------------------------------|
//! ```
//!
//! Each side adopts a session only after it opened a frame under a key that its own new token went
//! into: the control plane with `Welcome`, the guest with the first frame after it. Thereby each
//! knows that the other is present and has the key, and that no frame of an earlier session opens
//! in a later one. A control plane with a new session accepts frames of the previous one until a
//! frame arrives in the new one, so that frames in flight are not lost; a guest that accepted an
//! offer replies in the previous session until the offer is confirmed. A call without a reply is
//! sent again, in whichever session is current, with the same correlation; the guest handles it
//! once.
//!
//! To rotate the key of an instance, the guest is sent the new one in a session under the old one,
//! persists it, and accepts both; the control plane offers a session under the new one; with the
//! first frame that opens in that session each side removes the old key, except for frames in
//! flight in its session.
//!
//! # Structure, for reviewers
//!
//! `envelope.rs` contains all of the cryptography, `session.rs` the handshake. Both do no I/O;
//! `client.rs` and `server.rs` carry frames. `fuzz_harness.rs` runs both sides on a wire that an
//! attacker controls, for property tests and for fuzzing (`fuzz/`, see CONTRIBUTING).

#[cfg(feature = "amqp")]
mod amqp;
mod client;
mod drops;
mod envelope;
#[cfg(any(test, fuzzing))]
mod fuzz_harness;
mod in_process;
mod key;
mod key_ring;
mod login;
mod message_broker;
mod server;
mod session;
#[cfg(test)]
mod tests;
mod transport;

#[cfg(feature = "amqp")]
pub use amqp::{Amqp, Broker, CaCertificates};
#[cfg(feature = "amqp-management")]
pub use amqp::{Management, RabbitMq};
pub use client::{NotificationHandler, OnGuestRestart, RpcClient};
pub use drops::DropCounters;
pub use envelope::{DropReason, MAX_PAYLOAD_BYTES};
#[cfg(any(test, fuzzing))]
pub(crate) use fuzz_harness::run_script;
pub use in_process::InProcess;
pub use key::InstanceKey;
pub use key_ring::KeyRing;
pub use login::BrokerLogin;
pub use message_broker::{BrokerEndpoint, MessageBroker};
pub use server::{Notifier, RequestHandler, RpcServer};
pub use transport::{
    Address, Delivery, MAX_FRAME_BYTES, QUEUE_BYTES, QUEUE_FRAMES, QueueConsumer, SendFuture, Side, Transport,
};
#[cfg(feature = "amqp")]
pub(crate) use transport::{next_delay, reconnect_delays};

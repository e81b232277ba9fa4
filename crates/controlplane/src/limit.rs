//! The bounds of a mesh. Whoever asks past one is refused; nothing is dropped to make room.

use std::time::Duration;

use ringfence_model::SEGMENTS_PER_NODE_MAX;

/// Nodes in a mesh.
pub const NODES_MAX: usize = 20_000;
/// Devices in a mesh.
pub const DEVICES_MAX: usize = 20_000;
/// Perimeters in a mesh: each takes an IPv4 block of the 4,096 there are, and some take more.
pub const PERIMETERS_MAX: usize = 1_024;
/// Members of one perimeter: with everyone allowed to everyone by a few rules, a netmap still fits one message. What one
/// of them may know grows with whom it may talk to, so everyone with everyone costs the square of this.
pub const MEMBERS_PER_PERIMETER_MAX: usize = 16_384;
/// Join tokens, dead ones included. Dead ones are forgotten to make room, oldest first.
pub const TOKENS_MAX: usize = 4_096;
/// Uses of one join token.
pub const TOKEN_USES_MAX: u32 = 10_000;
/// The longest life of a join token.
pub const TOKEN_TTL_MAX: Duration = Duration::from_hours(365 * 24);
/// Workload issuers.
pub const WORKLOAD_ISSUERS_MAX: usize = 64;
/// Platforms' tokens that let a machine in and could still be shown again. Past it nobody else is let in by one.
pub const JWTS_REMEMBERED_MAX: usize = 65_536;
/// Bytes of a workload's subject: a CI's names its repository, branch and more.
pub const WORKLOAD_SUBJECT_BYTES_MAX: usize = 1_024;
/// People who were vouched for, those who are not logged in included. They are forgotten to make room, those who were
/// not seen for longest first.
pub const USERS_MAX: usize = 50_000;
/// Local accounts.
pub const ACCOUNTS_MAX: usize = 4_096;
/// People in the directories of all providers.
pub const DIRECTORY_PEOPLE_MAX: usize = USERS_MAX;
/// Groups in the directories of all providers.
pub const DIRECTORY_GROUPS_MAX: usize = 4_096;
/// Memberships in all those groups together.
pub const DIRECTORY_MEMBERSHIPS_MAX: usize = 1_000_000;
/// Addresses of one person in a directory.
pub const EMAILS_PER_PERSON_MAX: usize = 16;
/// The shortest session of a person.
pub const SESSION_LENGTH_MIN: Duration = Duration::from_mins(1);
/// The longest session of a person.
pub const SESSION_LENGTH_MAX: Duration = Duration::from_hours(30 * 24);
/// Bytes of a person's subject at a provider: what OpenID Connect Core section 2 allows.
pub const SUBJECT_BYTES_MAX: usize = 255;
/// Bytes of what a person is called.
pub const PERSON_NAME_BYTES_MAX: usize = 255;
/// Bytes of a person's address (RFC 5321 section 4.5.3.1.3).
pub const EMAIL_BYTES_MAX: usize = 254;
/// Groups of one person. A provider that knows more is set up to tell those that policies speak of.
pub const GROUPS_PER_PERSON_MAX: usize = 256;
/// Bytes of a group's name.
pub const GROUP_BYTES_MAX: usize = 255;
/// Methods (`amr`) of one login.
pub const METHODS_PER_LOGIN_MAX: usize = 16;
/// Bytes of each method, of the context class and of the provider's own session.
pub const CONTEXT_BYTES_MAX: usize = 255;
/// Requests for access that wait, are granted or owe a review.
pub const ACCESS_REQUESTS_MAX: usize = 4_096;
/// Of those of one node.
pub const ACCESS_PER_NODE_MAX: usize = 16;
/// Of those to one perimeter.
pub const ACCESS_PER_PERIMETER_MAX: usize = 256;
/// Approvals that the most urgent request needs.
pub const ACCESS_APPROVALS_MAX: usize = 2;
/// The shortest time access is granted for.
pub const ACCESS_LENGTH_MIN: Duration = Duration::from_mins(1);
/// The longest. It is not more than [`ACCESS_REVIEW_WITHIN`]: what nobody approved has ended when its review is due.
pub const ACCESS_LENGTH_MAX: Duration = Duration::from_hours(24);
/// How long a request waits for an answer.
pub const ACCESS_ANSWER_WITHIN: Duration = Duration::from_hours(24);
/// Within what time somebody is to review what nobody approved.
pub const ACCESS_REVIEW_WITHIN: Duration = Duration::from_hours(24);
/// Drills at once, of which each perimeter has one.
pub const DRILLS_MAX: usize = 64;
/// How long the rule of a drill lasts that nobody ends: whoever began it may die.
pub const DRILL_LENGTH: Duration = Duration::from_secs(30);
/// Bytes of the reason of a request, and of each answer.
pub const ACCESS_REASON_BYTES_MAX: usize = 512;
/// API tokens that count.
pub const API_TOKENS_MAX: usize = 1_024;
/// The longest life of an API token.
pub const API_TOKEN_LIFE_MAX: Duration = Duration::from_hours(365 * 24);
/// Perimeters of one owner's API token.
pub const API_TOKEN_PERIMETERS_MAX: usize = 256;
/// Locks at one time.
pub const LOCKS_MAX: usize = 4_096;
/// The longest that a lock lasts which ends by itself.
pub const LOCK_TTL_MAX: Duration = Duration::from_hours(365 * 24);
/// Members that a lock keeps.
pub const LOCK_KEEP_MAX: usize = 64;
/// Bytes of why something is locked.
pub const LOCK_REASON_BYTES_MAX: usize = 512;
/// Identity providers.
pub const PROVIDERS_MAX: usize = 16;
/// Policy files in one apply.
pub const FILES_PER_APPLY_MAX: usize = PERIMETERS_MAX;
/// Bytes of the policy files of one apply.
pub const APPLY_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a policy file's name.
pub const FILE_NAME_BYTES_MAX: usize = 255;
/// Refusals written down per hour: past it they are counted by the shell alone, so that guessing tokens cannot fill
/// the disk.
pub const REFUSALS_PER_HOUR_MAX: u32 = 600;
/// Entries that one node brings about by itself at once: a new key in every perimeter it can be in.
pub const OWN_ENTRIES_BURST: u32 = SEGMENTS_PER_NODE_MAX as u32;
/// How often one more may follow.
pub const OWN_ENTRY_EVERY: Duration = Duration::from_mins(1);
/// Bytes of each text in a recorded refusal.
pub const REFUSAL_TEXT_BYTES_MAX: usize = 512;
/// Bytes of a certificate's serial number in hex: 20 octets (RFC 5280 section 4.1.2.2).
pub const SERIAL_BYTES_MAX: usize = 40;
/// How long a released address, block or /64 rests before someone else gets it: longer than any lease, so that no
/// node still holds the one before under it.
pub const ADDRESS_REST: Duration = Duration::from_hours(48);

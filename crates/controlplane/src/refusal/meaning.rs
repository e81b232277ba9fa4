//! What each refusal means to the one who asked, and the word that machines know it by.

use super::{Refusal, RefusalKind};

impl Refusal {
    /// What it means to the one who asked.
    pub fn kind(&self) -> RefusalKind {
        match self {
            Self::Unchanged => RefusalKind::Unchanged,
            Self::ApiToken(refusal) => refusal.kind(),
            Self::Directory(refusal) => refusal.kind(),
            Self::Drill(refusal) => refusal.kind(),
            Self::Workload(refusal) => refusal.kind(),
            Self::Account(refusal) => refusal.kind(),
            Self::NotPermitted { .. }
            | Self::NoToken(_)
            | Self::TokenForged { .. }
            | Self::TokenUsed { .. }
            | Self::TokenExpired { .. }
            | Self::TokenRevoked { .. }
            | Self::OwnAccess(_)
            | Self::ReviewOwed(_)
            | Self::UserDeactivated(_)
            | Self::UserLocked(_)
            | Self::TokenLocked { .. } => RefusalKind::Denied,
            Self::Policy(_)
            | Self::NoFiles
            | Self::FutureBase { .. }
            | Self::Label(_)
            | Self::TokenUses(_)
            | Self::TokenTtl
            | Self::LowOrderKey
            | Self::NoGroup { .. }
            | Self::ExpiryPast
            | Self::FactTtl
            | Self::FactValue
            | Self::Nameless
            | Self::SessionLength
            | Self::NoSuchGroup { .. }
            | Self::AccessLength
            | Self::NoReason
            | Self::OddReason
            | Self::NoPorts(_)
            | Self::LockTtl
            | Self::KeepsItself
            | Self::KeepsNobody
            | Self::Provider(_)
            | Self::Serial => RefusalKind::Invalid,
            Self::NoPerimeter(_)
            | Self::NoNode(_)
            | Self::NoDevice(_)
            | Self::NoSession(_)
            | Self::NoUser(_)
            | Self::NoAccess(_)
            | Self::NoLock(_)
            | Self::NoProvider(_)
            | Self::NothingToRevoke(_) => RefusalKind::NotFound,
            Self::Stale { .. }
            | Self::NameTaken { .. }
            | Self::ProviderTaken(_)
            | Self::IdentityTaken(_)
            | Self::NotMember { .. }
            | Self::NobodyThere(_)
            | Self::AccessAnswered(_)
            | Self::ChecksInUse(_)
            | Self::KeyTaken => RefusalKind::Conflict,
            Self::TooManySegments { .. }
            | Self::TooHeavy { .. }
            | Self::Limit { .. }
            | Self::TooOften(_)
            | Self::AddressesExhausted(_) => RefusalKind::Limit,
        }
    }

    /// A stable word for it, for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::NotPermitted { .. } => "not-permitted",
            Self::ApiToken(refusal) => refusal.code(),
            Self::Drill(refusal) => refusal.code(),
            Self::Policy(_) => "policy",
            Self::ChecksInUse(_) => "checks-in-use",
            Self::NoFiles => "no-files",
            Self::Stale { .. } => "stale-base",
            Self::FutureBase { .. } => "future-base",
            Self::NoPerimeter(_) => "no-perimeter",
            Self::NoNode(_) => "no-node",
            Self::NoDevice(_) => "no-device",
            Self::NoProvider(_) => "no-provider",
            Self::ProviderTaken(_) => "provider-taken",
            Self::Provider(_) => "provider",
            Self::NameTaken { .. } => "name-taken",
            Self::Label(_) => "label",
            Self::NoToken(_) => "token-unknown",
            Self::NothingToRevoke(_) => "no-token",
            Self::TokenForged { .. } => "token-forged",
            Self::TokenUsed { .. } => "token-used",
            Self::TokenExpired { .. } => "token-expired",
            Self::TokenRevoked { .. } => "token-revoked",
            Self::TokenUses(_) => "token-uses",
            Self::TokenTtl => "token-ttl",
            Self::IdentityTaken(_) => "identity-taken",
            Self::NotMember { .. } => "not-member",
            Self::LowOrderKey => "low-order-key",
            Self::KeyTaken => "key-taken",
            Self::NoGroup { .. } => "no-group",
            Self::ExpiryPast => "expiry-past",
            Self::NoSession(_) => "no-session",
            Self::NoUser(_) => "no-user",
            Self::UserDeactivated(_) => "user-deactivated",
            Self::Directory(refusal) => refusal.code(),
            Self::Workload(refusal) => refusal.code(),
            Self::Account(refusal) => refusal.code(),
            Self::Nameless => "nameless",
            Self::SessionLength => "session-length",
            Self::NobodyThere(_) => "nobody-there",
            Self::NoSuchGroup { .. } => "no-such-group",
            Self::AccessLength => "access-length",
            Self::NoReason => "no-reason",
            Self::OddReason => "odd-reason",
            Self::NoPorts(_) => "no-ports",
            Self::NoAccess(_) => "no-access",
            Self::AccessAnswered(_) => "access-answered",
            Self::OwnAccess(_) => "own-access",
            Self::ReviewOwed(_) => "review-owed",
            Self::UserLocked(_) => "user-locked",
            Self::TokenLocked { .. } => "token-locked",
            Self::NoLock(_) => "no-lock",
            Self::LockTtl => "lock-ttl",
            Self::KeepsItself => "keeps-itself",
            Self::KeepsNobody => "keeps-nobody",
            Self::TooManySegments { .. } => "too-many-segments",
            Self::TooHeavy { .. } => "too-heavy",
            Self::Limit { .. } => "limit",
            Self::TooOften(_) => "too-often",
            Self::AddressesExhausted(_) => "addresses-exhausted",
            Self::FactTtl => "fact-ttl",
            Self::FactValue => "fact-value",
            Self::Serial => "serial",
        }
    }
}

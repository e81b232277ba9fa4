//! Finds who a login is among the people of a directory.
//!
//! **Invariant:** a login is somebody only if it is nobody else: two people with one address are neither by it.

use std::collections::{BTreeMap, BTreeSet};

use ringfence_model::DirectoryId;

use super::{Directory, DirectoryPerson, PersonProfile};
use crate::{User, VerifiedLogin};

/// An index over the people of one directory, made for many look-ups.
pub(crate) struct Finder<'a> {
    directory: &'a Directory,
    by_mark: BTreeMap<Mark, BTreeSet<DirectoryId>>,
}

/// By what a person is found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mark {
    /// The subject of their tokens, or what another claim says in its place. Case counts.
    Subject(String),
    /// An address, in small letters.
    Address(String),
}

impl<'a> Finder<'a> {
    pub(crate) fn new(directory: &'a Directory) -> Self {
        let mut by_mark: BTreeMap<Mark, BTreeSet<DirectoryId>> = BTreeMap::new();
        for person in directory.people() {
            for mark in person.profile.marks() {
                by_mark.entry(mark).or_default().insert(person.id);
            }
        }
        Self { directory, by_mark }
    }

    /// The one person with any of these marks.
    pub(crate) fn find(&self, marks: &BTreeSet<Mark>) -> Option<&'a DirectoryPerson> {
        let found: BTreeSet<DirectoryId> = marks
            .iter()
            .filter_map(|mark| self.by_mark.get(mark))
            .flatten()
            .copied()
            .collect();
        match found.first() {
            Some(only) if found.len() == 1 => self.directory.person(*only),
            Some(_) | None => None,
        }
    }
}

impl Directory {
    /// The one person with any of these marks: for one look-up. A [`Finder`] is for many.
    pub(crate) fn find(&self, marks: &BTreeSet<Mark>) -> Option<&DirectoryPerson> {
        let mut meant = self.people().filter(|person| person.profile.has_any(marks));
        let only = meant.next();
        only.filter(|_| meant.next().is_none())
    }
}

impl PersonProfile {
    /// Whether one of these marks is theirs.
    fn has_any(&self, marks: &BTreeSet<Mark>) -> bool {
        marks.iter().any(|mark| match mark {
            Mark::Subject(subject) => self.external_id.as_deref() == Some(subject),
            Mark::Address(address) => self.has_address(address),
        })
    }

    /// Whether an address is theirs.
    pub(crate) fn has_address(&self, address: &str) -> bool {
        let emails = self.emails.iter().map(|email| &email.value);
        emails
            .chain([&self.user_name])
            .any(|own| own.eq_ignore_ascii_case(address))
    }

    /// By what they are found.
    pub(crate) fn marks(&self) -> BTreeSet<Mark> {
        let subject = self.external_id.iter().map(|id| Mark::Subject(id.clone()));
        let emails = self.emails.iter().map(|email| &email.value);
        // Whoever has no address by that name is found by none that way: a token's address is a verified one.
        let addresses = emails.chain([&self.user_name]);
        let addresses = addresses.map(|address| Mark::address(address));
        subject.chain(addresses).collect()
    }
}

impl VerifiedLogin {
    /// By what its person is found.
    pub(crate) fn marks(&self) -> BTreeSet<Mark> {
        let subjects = [self.user.subject.as_str()]
            .into_iter()
            .chain(self.directory_id.as_deref());
        marks(subjects, self.email.as_deref())
    }
}

impl User {
    /// By what they are found, as they last logged in.
    pub(crate) fn marks(&self) -> BTreeSet<Mark> {
        let subjects = [self.id.subject.as_str()]
            .into_iter()
            .chain(self.directory_id.as_deref());
        marks(subjects, self.email.as_deref())
    }
}

fn marks<'a>(subjects: impl Iterator<Item = &'a str>, email: Option<&str>) -> BTreeSet<Mark> {
    let subjects = subjects.map(|subject| Mark::Subject(subject.to_owned()));
    subjects.chain(email.map(Mark::address)).collect()
}

impl Mark {
    fn address(text: &str) -> Self {
        Self::Address(text.to_ascii_lowercase())
    }
}

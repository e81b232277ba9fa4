//! `[members]`: the groups of a policy.

use std::collections::BTreeMap;

use ringfence_model::{Name, Selector};
use toml::de::DeTable;

use crate::diagnostic::Place;
use crate::policy::{Group, GroupMembers, UserKey, UserSelector};
use crate::reader::{Reader, Value, nearest, shorten};

/// Groups by name. `None` in place of one that is broken, so that rules which name it are not errors as well.
pub(super) type Groups = BTreeMap<Name, Option<Group>>;

pub(super) fn read_members<'t>(reader: &mut Reader<'t>, root: &DeTable<'t>) -> Groups {
    let mut groups = Groups::new();
    let Some(members) = root.get("members") else {
        return groups;
    };
    let Some(table) = members.get_ref().as_table() else {
        reader.wrong_type(members, "members", "a table");
        return groups;
    };
    if table.len() > GROUPS_MAX {
        let message = format!(
            "there are {} groups: at most {GROUPS_MAX} are allowed",
            table.len()
        );
        reader.error(members.span(), message);
        return groups;
    }
    for (key, value) in table {
        let place = reader.place(key.span());
        let group = read_group(reader, value, place);
        match Name::parse(key.get_ref()) {
            Ok(name) => {
                groups.insert(name, group);
            }
            Err(error) => reader.error(key.span(), format!("group {:?}: {error}", shorten(key.get_ref()))),
        }
    }
    groups
}

fn read_group<'t>(reader: &mut Reader<'t>, value: &Value<'t>, place: Place) -> Option<Group> {
    if let Some(selector) = value.get_ref().as_str() {
        let help = format!("write {{ nodes = \"{}\" }}", shorten(selector));
        reader.error_with_help(value.span(), "a group must be a table, not a string", help);
        return None;
    }
    let fields = reader.fields(value, "a group", &["nodes", "users"])?;
    let members = match (fields.optional("nodes"), fields.optional("users")) {
        (Some(nodes), None) => {
            let selector = reader.parsed(nodes, "nodes", str::parse::<Selector>);
            GroupMembers::Nodes(selector?)
        }
        (None, Some(users)) => GroupMembers::Users(reader.parsed(users, "users", read_users)?),
        (Some(_), Some(users)) => {
            let help = "make two groups and write an [[allow]] for each";
            reader.error_with_help(users.span(), "a group has either nodes or users, not both", help);
            return None;
        }
        (None, None) if fields.is_misspelt("nodes") || fields.is_misspelt("users") => return None,
        (None, None) => {
            let help = "write nodes = \"key=value\" or users = \"group=name\"";
            reader.error_with_help(fields.span, "a group needs nodes or users", help);
            return None;
        }
    };
    Some(Group { members, place })
}

fn read_users(text: &str) -> Result<UserSelector, String> {
    let mut pairs = BTreeMap::new();
    for pair in text.split(',') {
        let shown = shorten(pair.trim());
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| format!("{shown:?} selects no users: write group=name or email=address"))?;
        let (key, value) = (key.trim(), value.trim());
        let known = match key {
            "group" => UserKey::Group,
            "email" => UserKey::Email,
            _ => {
                return Err(format!(
                    "{:?} is not known of users: use group or email",
                    shorten(key)
                ));
            }
        };
        let plain = value
            .chars()
            .all(|c| c.is_alphanumeric() || "._/@:+ -".contains(c));
        if value.is_empty() || value.len() > USER_VALUE_BYTES_MAX || !plain {
            return Err(format!("{:?} cannot be the value of {key}", shorten(value)));
        }
        if pairs.insert(known, value.to_owned()).is_some() {
            return Err(format!("{key} is given twice"));
        }
    }
    Ok(UserSelector(pairs))
}

/// The group that a rule or an expectation names.
pub(super) fn read_group_name<'t>(
    reader: &mut Reader<'t>,
    value: &Value<'t>,
    key: &str,
    groups: &Groups,
) -> Option<Name> {
    if value.get_ref().is_array() {
        let help = "write one [[allow]] for each group";
        reader.error_with_help(value.span(), format!("{key} is one group, not a list"), help);
        return None;
    }
    let text = reader.string(value, key)?;
    if let Some((name, _)) = groups.get_key_value(text) {
        return Some(name.clone());
    }
    let names = || groups.keys().map(Name::as_str);
    let help = match (nearest(text, names()), text.starts_with("node:")) {
        (_, true) => "rules are between groups: give the node a label and make a group of it".to_owned(),
        (Some(nearest), false) => format!("did you mean {nearest}?"),
        (None, false) if groups.is_empty() => "name it under [members]".to_owned(),
        (None, false) => format!("the groups are {}", names().collect::<Vec<_>>().join(", ")),
    };
    reader.error_with_help(
        value.span(),
        format!("{key}: there is no group {:?}", shorten(text)),
        help,
    );
    None
}

/// The most groups of a policy.
pub const GROUPS_MAX: usize = 256;

const USER_VALUE_BYTES_MAX: usize = 254;

//! Writes the first policy file of a perimeter: one asset, the clients that may reach it, and tests of just that.

use std::fmt::Write as _;

use ringfence_model::{Name, Selector};

use crate::policy::list;
use crate::service::Service;

/// What a first policy file is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Starter {
    /// The perimeter's name.
    pub name: Name,
    /// Who is protected.
    pub asset: Selector,
    /// Who may reach it.
    pub client: Selector,
    /// With what.
    pub services: Vec<Service>,
    /// Who answers for it.
    pub owners: Vec<String>,
}

/// The text of a policy file that opens `services` from the clients to the asset and nothing else.
///
/// It may still be refused by [`crate::Policy::parse`], which checks the owners.
pub fn starter(starter: &Starter) -> String {
    let Starter {
        name,
        asset,
        client,
        services,
        owners,
    } = starter;
    let ports: Vec<String> = services
        .iter()
        .map(|service| quoted(&service.to_string()))
        .collect();
    let owners: Vec<String> = owners.iter().map(|owner| quoted(owner)).collect();
    let mut text = format!(
        "[perimeter]\n\
         name        = \"{name}\"\n\
         description = \"Only the clients reach the asset, only on {}\"\n\
         owners      = [{}]\n\
         \n\
         [members]  # who has a key here at all\n\
         asset  = {{ nodes = \"{asset}\" }}\n\
         client = {{ nodes = \"{client}\" }}\n\
         \n\
         [[allow]]\n\
         from  = \"client\"\n\
         to    = \"asset\"\n\
         ports = [{}]\n",
        list(services),
        owners.join(", "),
        ports.join(", "),
    );
    for service in services {
        let written = write!(
            text,
            "\n\
             [[expect]]  # a test: apply refuses the file when it fails\n\
             from    = \"client\"\n\
             to      = \"asset\"\n\
             port    = \"{service}\"\n\
             verdict = \"allow\"\n"
        );
        written.expect("a string takes all that is written to it");
    }
    text
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;

    fn example(owner: &str) -> Starter {
        Starter {
            name: Name::parse("payments-db").unwrap(),
            asset: "role=db".parse().unwrap(),
            client: "role=api,env=prod".parse().unwrap(),
            services: vec!["tcp/5432".parse().unwrap(), "icmp".parse().unwrap()],
            owners: vec![owner.to_owned()],
        }
    }

    #[test]
    fn the_first_file_parses_without_a_warning() {
        let checked = Policy::parse("new.toml", &starter(&example("alice@example.com"))).unwrap();

        assert_eq!(checked.warnings, []);
        assert_eq!(checked.policy.rules[0].services_text(), "tcp/5432, icmp");
        assert_eq!(checked.policy.owners, ["alice@example.com"]);
        assert_eq!(checked.policy.expectations.len(), 2);
    }

    #[test]
    fn an_owner_cannot_write_policy() {
        let owner = "\"]\n[[allow]]\nfrom = 'client'";

        assert!(Policy::parse("new.toml", &starter(&example(owner))).is_err());
    }
}

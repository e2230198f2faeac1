//! `limpet scale`: another number of instances.

use std::str::FromStr;

use clap::Args;
use limpet_controller::api::types::ServicePatch;
use limpet_protocol::limits::MAX_REPLICAS;

use crate::client::Client;
use crate::targets::Target;
use crate::verbs::change::{Changes, Until, WaitArg};

/// Arguments of `limpet scale`.
#[derive(Debug, Args)]
#[command(after_help = "\
The next `limpet apply` brings the numbers of the file back. A service that was stopped is started. A global service has one
instance on each node that matches: change its placement instead.

Examples:
  limpet scale shop.web=3
  limpet scale shop.web=3 shop.worker=0 --wait")]
pub struct ScaleArgs {
    /// A service and how many instances it shall have
    #[arg(required = true, value_name = "APP.SERVICE=N")]
    numbers: Vec<Number>,
    #[command(flatten)]
    wait: WaitArg,
}

/// `shop.web=3`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Number {
    target: Target,
    replicas: u32,
}

impl FromStr for Number {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected APP.SERVICE=N, such as shop.web=3";
        let (target, number) = word.rsplit_once('=').ok_or(EXPECTED)?;
        let target: Target = target.parse()?;
        if target.service.is_none() {
            return Err(EXPECTED.to_owned());
        }
        let replicas = number.parse().ok().filter(|number| *number <= MAX_REPLICAS);
        let replicas = replicas.ok_or_else(|| format!("expected a number up to {MAX_REPLICAS}"))?;
        Ok(Self { target, replicas })
    }
}

/// Scales services.
///
/// # Errors
/// If there is no such service, or it does not come to be in time.
pub async fn run(args: &ScaleArgs, client: &Client) -> anyhow::Result<()> {
    let mut changes = Changes::default();
    for Number { target, replicas } in &args.numbers {
        let (replicas, stopped) = (Some(*replicas), Some(false));
        changes.add(target, ServicePatch { replicas, stopped, ..ServicePatch::default() });
    }
    changes.make("is scaled", Until::Settled, &args.wait, client).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_belongs_to_a_service() {
        let number: Number = "shop.web.v1=10".parse().unwrap();
        assert_eq!((number.target.to_string().as_str(), number.replicas), ("shop.web.v1", 10));
        for wrong in ["", "=", "shop=3", "shop.web", "shop.web=", "shop.web=-1", "shop.web=1.5"] {
            assert!(wrong.parse::<Number>().is_err(), "{wrong}");
        }
        let many = format!("shop.web={}", u64::MAX).parse::<Number>().unwrap_err();
        assert_eq!(many, "expected a number up to 10000");
    }
}

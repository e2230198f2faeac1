//! `limpet plan`: what would an apply do? Nothing is changed.

use clap::Args;
use limpet_controller::preview::{KeyChange, NodePull, PlanView, ServicePlan, Step, WavePlan};
use limpet_protocol::application::Application;

use crate::client::Client;
use crate::compose_files::{ComposeArgs, accept};
use crate::contents::{self, Keep};
use crate::output::{self, Format};

/// Steps of one service that people are shown; programs get all of them.
const MAX_STEPS_SHOWN: usize = 20;
/// Nodes whose pulls people are shown.
const MAX_PULLS_SHOWN: usize = 20;

/// Arguments of `limpet plan`.
#[derive(Debug, Args)]
#[command(after_help = "\
+ is added or starts, ~ changes or is updated, > goes to another node, - is removed or stops, ? finds no node.
Values of keys are shown where nobody keeps a secret there. The revision in the first line is what
`limpet apply --if-revision` takes: it fails with exit code 6 if somebody changed the application since.

Examples:
  limpet plan -f shop.yaml
  limpet plan -f shop.yaml --exit-code || limpet apply -f shop.yaml
  limpet plan -o json | jq '.services[] | select(.pending > 0)'")]
pub struct PlanArgs {
    #[command(flatten)]
    compose: ComposeArgs,
    /// End with exit code 7 if there is something to do
    #[arg(long)]
    exit_code: bool,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

/// There is something to do; `--exit-code` asked to be told so.
#[derive(Debug, thiserror::Error)]
#[error("there is something to do")]
pub struct SomethingToDo;

/// Plans.
///
/// # Errors
/// If the file has errors (they have been shown), or the controller refuses it.
pub async fn run(args: &PlanArgs, client: &Client) -> anyhow::Result<()> {
    let project = args.compose.load()?;
    let mut application = accept(project.to_application())?;
    contents::resolve(&project, &mut application, Keep::No, client).await?;
    let view = show(&application, args.output, client).await?;
    if args.exit_code && view.changes {
        return Err(SomethingToDo.into());
    }
    Ok(())
}

/// Asks for the plan and shows it.
///
/// # Errors
/// If the controller refuses the application.
pub async fn show(
    application: &Application,
    format: Format,
    client: &Client,
) -> anyhow::Result<PlanView> {
    let view = client.plan(application).await?;
    match format {
        Format::Json | Format::Yaml => output::object(format, &view)?,
        Format::Table | Format::Wide => output::print(&text(&view, output::colours()))?,
    }
    Ok(view)
}

fn text(view: &PlanView, colours: bool) -> String {
    let at = match view.revision {
        0 => "it is not there yet".to_owned(),
        revision => format!("now at revision {revision}"),
    };
    let mut text = format!("{} ({at})\n", view.application);
    for plan in &view.services {
        service(&mut text, plan, colours);
    }
    for other in &view.others {
        text += &format!("  also {other}\n");
    }
    pulls(&mut text, &view.pulls);
    text += &format!("{}\n", sum(&view.services));
    if view.changes {
        text += &format!("To make it so: limpet apply --if-revision {}\n", view.revision);
    } else {
        text += "Nothing to do.\n";
    }
    text
}

fn mark(mark: char, colours: bool) -> String {
    let colour = match mark {
        '+' => 32,
        '~' | '>' => 33,
        '-' | '?' => 31,
        _ => return mark.to_string(),
    };
    if colours { format!("\x1b[{colour}m{mark}\x1b[0m") } else { mark.to_string() }
}

fn service(text: &mut String, plan: &ServicePlan, colours: bool) {
    let sign = match plan.action.as_str() {
        "add" => '+',
        "remove" => '-',
        "change" => '~',
        _ if plan.steps.is_empty() => '=',
        _ => '~',
    };
    let keys: Vec<String> = plan.keys.iter().map(key).collect();
    let what = match plan.action.as_str() {
        "add" => format!("image {}", plan.image),
        "change" => keys.join(", "),
        _ => String::new(),
    };
    let line = format!("  {} {}  {what}", mark(sign, colours), plan.service);
    *text += &format!("{}\n", line.trim_end());
    for step in plan.steps.iter().take(MAX_STEPS_SHOWN) {
        *text += &format!("      {}\n", one(step, colours));
    }
    let more = plan.steps.len().saturating_sub(MAX_STEPS_SHOWN);
    let more = u64::try_from(more).unwrap_or(u64::MAX).saturating_add(u64::from(plan.more));
    if more > 0 {
        *text += &format!("      and {more} more\n");
    }
    if plan.stays > 0 {
        let (stay, are) = if plan.stays == 1 { ("stays", "is") } else { ("stay", "are") };
        *text += &format!(
            "      {} {stay} as {} {are}\n",
            plan.stays,
            if plan.stays == 1 { "it" } else { "they" }
        );
    }
    for reason in &plan.reasons {
        *text += &format!("      why: {reason}\n");
    }
    if let Some(order) = &plan.order {
        *text += &format!("      order: {order}\n");
    }
    for (number, wave) in plan.waves.iter().enumerate() {
        *text += &format!("      wave {}, {}: {}\n", number + 1, wave.which, members(wave));
    }
}

/// How many instances a wave has, and where.
fn members(wave: &WavePlan) -> String {
    let WavePlan { instances, nodes, .. } = wave;
    let others = usize::try_from(*instances).unwrap_or(usize::MAX) > nodes.len();
    match (instances, nodes.is_empty()) {
        (0, _) => "no instances".to_owned(),
        (1, _) => format!("1 instance on {}", nodes.join(", ")),
        (_, true) => format!("{instances} instances"),
        _ if others => format!("{instances} instances, on {} …", nodes.join(", ")),
        _ => format!("{instances} instances on {}", nodes.join(", ")),
    }
}

fn key(change: &KeyChange) -> String {
    let none = || "none".to_owned();
    match (&change.from, &change.to) {
        (None, None) => change.key.clone(),
        (from, to) => {
            let (from, to) = (from.clone().unwrap_or_else(none), to.clone().unwrap_or_else(none));
            format!("{} {from} → {to}", change.key)
        }
    }
}

fn one(step: &Step, colours: bool) -> String {
    let (sign, says) = match (step.action.as_str(), &step.node, &step.from) {
        ("start", Some(node), _) => ('+', format!("starts on {node}")),
        ("idle", Some(node), _) => {
            ('+', format!("has a place on {node}, and starts when its load asks for it"))
        }
        ("stop", Some(node), _) => ('-', format!("stops on {node}")),
        ("move", Some(node), Some(from)) => ('>', format!("goes from {from} to {node}")),
        ("update", Some(node), _) => ('~', format!("is updated on {node}")),
        (_, Some(node), _) => ('?', format!("cannot leave {node}")),
        (_, None, _) => ('?', "finds no node".to_owned()),
    };
    let later = if step.reachable { "" } else { " (when the node can be reached again)" };
    format!("{} {} {says}{later}", mark(sign, colours), step.instance)
}

fn pulls(text: &mut String, pulls: &[NodePull]) {
    let told = pulls.iter().filter(|pull| pull.bytes != Some(0));
    for pull in told.clone().take(MAX_PULLS_SHOWN) {
        let each = pull.images.iter().filter(|image| image.bytes != Some(0)).map(|image| {
            match (image.bytes, &image.unknown) {
                (Some(bytes), _) => format!("{} of {}", output::bytes(bytes), image.image),
                (None, Some(why)) => format!("{}: unknown ({why})", image.image),
                (None, None) => format!("{}: unknown", image.image),
            }
        });
        *text += &format!("  {} pulls {}\n", pull.node, each.collect::<Vec<_>>().join(", "));
    }
    let more = told.count().saturating_sub(MAX_PULLS_SHOWN);
    if more > 0 {
        *text += &format!("  and {more} more nodes pull\n");
    }
}

fn sum(plans: &[ServicePlan]) -> String {
    let total =
        |of: fn(&ServicePlan) -> u32| plans.iter().map(|plan| u64::from(of(plan))).sum::<u64>();
    let counts = [
        (total(|it| it.starts), "to start"),
        (total(|it| it.idles), "to wait for their load"),
        (total(|it| it.updates), "to update"),
        (total(|it| it.moves), "to move"),
        (total(|it| it.stops), "to stop"),
        (total(|it| it.pending), "without a node"),
        (total(|it| it.stays), "to stay"),
    ];
    let said: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if said.is_empty() {
        "No instances".to_owned()
    } else {
        format!("Instances: {}", said.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use limpet_controller::preview::ImagePull;

    use super::*;

    fn step(action: &str, slot: u32, node: Option<&str>, from: Option<&str>) -> Step {
        Step {
            action: action.into(),
            instance: format!("shop.web.{slot}"),
            node: node.map(Into::into),
            from: from.map(Into::into),
            reachable: node != Some("n9"),
        }
    }

    #[test]
    fn waves_are_lines_of_their_own() {
        let wave = |which: &str, instances: u32, nodes: &[&str]| {
            let nodes = nodes.iter().map(ToString::to_string).collect();
            WavePlan { which: which.into(), instances, nodes }
        };
        let plan = ServicePlan {
            service: "web".into(),
            waves: vec![
                wave("node.labels.ring == canary", 1, &["n9"]),
                wave("until 50 % are updated", 0, &[]),
                wave("all others", 12, &["n1", "n2"]),
            ],
            ..ServicePlan::default()
        };
        let mut text = String::new();
        service(&mut text, &plan, false);
        let expected = "  = web
      wave 1, node.labels.ring == canary: 1 instance on n9
      wave 2, until 50 % are updated: no instances
      wave 3, all others: 12 instances, on n1, n2 …
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_plan_is_a_tree_with_marks() {
        let image =
            KeyChange { key: "image".into(), from: Some("a:1".into()), to: Some("a:2".into()) };
        let secret = KeyChange { key: "environment.KEY".into(), from: None, to: None };
        let web = ServicePlan {
            service: "web".into(),
            action: "change".into(),
            keys: vec![image, secret],
            updates: 1,
            moves: 1,
            pending: 1,
            stays: 2,
            reasons: vec!["no suitable node".into()],
            order: Some("1 at a time".into()),
            steps: vec![
                step("update", 1, Some("n9"), None),
                step("move", 2, Some("n1"), Some("n2")),
                step("pend", 3, None, None),
            ],
            ..ServicePlan::default()
        };
        let idle = ServicePlan {
            service: "db".into(),
            action: "none".into(),
            stays: 1,
            ..ServicePlan::default()
        };
        let pull = |node: &str, bytes: Option<u64>| NodePull {
            node: node.into(),
            bytes,
            images: vec![ImagePull {
                image: "a:2".into(),
                bytes,
                unknown: bytes.is_none().then(|| "unreachable".into()),
            }],
        };
        let view = PlanView {
            application: "shop".into(),
            revision: 7,
            changes: true,
            services: vec![idle, web],
            others: vec!["starts blog.web.1 on n2".into()],
            pulls: vec![pull("n1", Some(2048)), pull("n2", Some(0)), pull("n9", None)],
        };
        let expected = "\
shop (now at revision 7)
  = db
      1 stays as it is
  ~ web  image a:1 → a:2, environment.KEY
      ~ shop.web.1 is updated on n9 (when the node can be reached again)
      > shop.web.2 goes from n2 to n1
      ? shop.web.3 finds no node
      2 stay as they are
      why: no suitable node
      order: 1 at a time
  also starts blog.web.1 on n2
  n1 pulls 2.00 KiB of a:2
  n9 pulls a:2: unknown (unreachable)
Instances: 1 to update, 1 to move, 1 without a node, 3 to stay
To make it so: limpet apply --if-revision 7
";
        assert_eq!(text(&view, false), expected);
        let nothing = PlanView { application: "shop".into(), ..PlanView::default() };
        assert_eq!(
            text(&nothing, false),
            "shop (it is not there yet)\nNo instances\nNothing to do.\n"
        );
    }
}

//! `limpet logs`: what containers have written.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream, SelectAll};
use limpet_controller::api::types::{InstanceView, LogLine};

use crate::client::{Client, ClientError, LogsPart};
use crate::{complain, instant, output, targets};

/// Most instances whose output is followed at once: each is a connection.
const MAX_FOLLOWED: usize = 64;
/// How often a follower looks for instances that are new, or elsewhere.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// Colours of the prefixes, in turn: cyan, yellow, green, magenta, blue, and the bright ones.
const COLOURS: [u8; 10] = [36, 33, 32, 35, 34, 96, 93, 92, 95, 94];

/// Arguments of `limpet logs`.
#[derive(Debug, Args)]
#[command(after_help = "\
The output is kept on the node, bounded by the service's `logging` options, and read there: it is at hand while the
node can be reached. Who follows is shown instances that come later too, and those that move to another node.

Examples:
  limpet logs web               every instance of the service web, in every application
  limpet logs shop.web -f       of the application shop, and what follows
  limpet logs shop.web.2        one instance
  limpet logs shop --tail 20    everything of the application, the last 20 lines each
  limpet logs web --since 10m -t")]
pub struct LogsArgs {
    /// A service, APP.SERVICE, APP.SERVICE.SLOT or an application
    #[arg(required = true, value_name = "SERVICE|INSTANCE")]
    targets: Vec<String>,
    /// Go on as more is written, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Only the last so many lines of each instance
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<u32>,
    /// Only what was written since then: a duration before now (10m) or a time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Begin each line with its time, by the node's clock
    #[arg(short, long)]
    timestamps: bool,
    /// Leave out the prefix that says which instance wrote a line
    #[arg(long)]
    no_prefix: bool,
}

/// Something could not be read to its end; it has been said on standard error.
#[derive(Debug, thiserror::Error)]
#[error("the output of {} is not complete: {why}", .instance)]
struct Incomplete {
    instance: String,
    why: String,
}

/// Shows output.
///
/// # Errors
/// If the words mean nothing, or an output cannot be read to its end.
pub async fn run(args: &LogsArgs, client: &Client) -> anyhow::Result<()> {
    let since = args.since.as_deref().map(|text| instant::parse(text, output::now_ms()));
    let since_ms = since.transpose().map_err(crate::exit::Usage)?;
    let part = LogsPart {
        tail: args.tail,
        follow: args.follow,
        since_ms,
        timestamps: args.timestamps || args.follow,
    };
    let all = client.instances(None).await?.items;
    let chosen = choose(&args.targets, &all)?;
    let mut screen = Screen::new(args.no_prefix, args.timestamps);
    if args.follow {
        return follow((args, part), client, screen).await;
    }
    screen.know(&chosen);
    let mut first_failure = None;
    for instance in chosen {
        let name = &instance.instance;
        let shown = match client.logs(name, &part).await {
            Ok(lines) => show(name, lines.boxed(), &mut screen).await,
            Err(error) => Err(error.into()),
        };
        first_failure = first_failure.or(shown.err());
    }
    first_failure.map_or(Ok(()), Err)
}

/// The instances that the words mean, each once.
fn choose<'a>(
    words: &[String],
    all: &'a [InstanceView],
) -> Result<Vec<&'a InstanceView>, crate::exit::NotFound> {
    let mut chosen: Vec<&InstanceView> = Vec::new();
    for word in words {
        for found in targets::resolve(word, all)? {
            match chosen.iter_mut().find(|known| known.instance == found.instance) {
                // It was replaced on another node, and its first one was not heard of since.
                Some(known) if found.current && found.phase != "unknown" => *known = found,
                Some(_) => {}
                None => chosen.push(found),
            }
        }
    }
    Ok(chosen)
}

async fn show(
    instance: &str,
    mut lines: BoxStream<'_, Result<LogLine, ClientError>>,
    screen: &mut Screen,
) -> anyhow::Result<()> {
    while let Some(line) = lines.next().await {
        let line = line?;
        if line.stream == "error" {
            let why = line.text.trim_end().to_owned();
            return Err(Incomplete { instance: instance.to_owned(), why }.into());
        }
        output::print(&screen.place(instance, &line))?;
    }
    Ok(())
}

/// What one followed output gave: whose and on which node it is, and a line, or none at its end.
type Piece = ((String, Option<String>), Option<Result<LogLine, ClientError>>);

/// The outputs that are followed.
struct Followed {
    streams: SelectAll<BoxStream<'static, Piece>>,
    /// The node of each that is open; none once it has ended.
    open: BTreeMap<String, Option<String>>,
    /// When the last line of each was written, and on which node that was.
    last: BTreeMap<String, (Option<String>, u64)>,
}

/// Shows what is written until Ctrl-C, of what is there and of what comes later.
async fn follow(
    (args, part): (&LogsArgs, LogsPart),
    client: &Client,
    mut screen: Screen,
) -> anyhow::Result<()> {
    let mut followed = Followed {
        // One that is empty would end the whole at once.
        streams: stream::select_all([stream::pending().boxed()]),
        open: BTreeMap::new(),
        last: BTreeMap::new(),
    };
    let mut looks = tokio::time::interval(LOOK_PERIOD);
    let mut first = true;
    loop {
        tokio::select! {
            _ = looks.tick() => {
                let found = client.instances(None).await;
                // A controller that is being restarted is waited for.
                let Ok(all) = found else { continue };
                // What all words mean may be gone for a moment, as between two versions.
                let chosen = choose(&args.targets, &all.items).unwrap_or_default();
                screen.know(&chosen);
                followed.look(&chosen, (part, first), client).await?;
                first = false;
            }
            Some((source, piece)) = followed.streams.next() => {
                followed.take(source, piece, &mut screen)?;
            }
        }
    }
}

impl Followed {
    /// Opens the outputs of instances that are new, or that are on another node than before.
    async fn look(
        &mut self,
        chosen: &[&InstanceView],
        (part, first): (LogsPart, bool),
        client: &Client,
    ) -> anyhow::Result<()> {
        self.open.retain(|name, _| chosen.iter().any(|item| item.instance == *name));
        for item in chosen {
            let name = &item.instance;
            if item.node.is_none() || self.open.get(name) == Some(&item.node) {
                continue;
            }
            if self.open.len() >= MAX_FOLLOWED {
                anyhow::bail!(
                    "more than {MAX_FOLLOWED} instances are too many to follow at once: name fewer"
                );
            }
            let mut part = part;
            match self.last.get(name) {
                // Where it was read before, it goes on.
                Some((node, at_ms)) if *node == item.node => {
                    (part.tail, part.since_ms) = (None, Some(at_ms + 1));
                }
                Some(_) => (part.tail, part.since_ms) = (None, None),
                None if !first => (part.tail, part.since_ms) = (None, part.since_ms),
                None => {}
            }
            match client.logs(name, &part).await {
                Ok(lines) => {
                    let of = (name.clone(), item.node.clone());
                    let end = of.clone();
                    let lines = lines.map(move |line| (of.clone(), Some(line)));
                    let end = stream::once(std::future::ready((end, None)));
                    self.streams.push(lines.chain(end).boxed());
                    self.open.insert(name.clone(), item.node.clone());
                    self.last.entry(name.clone()).or_insert_with(|| (item.node.clone(), 0));
                }
                // It is not there yet, or cannot be reached: the next look may find it.
                Err(ClientError::Answer { .. } | ClientError::Unreachable { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        (instance, node): (String, Option<String>),
        piece: Option<Result<LogLine, ClientError>>,
        screen: &mut Screen,
    ) -> anyhow::Result<()> {
        match piece {
            Some(Ok(line)) if line.stream != "error" => {
                if let Some(at_ms) = line.at_ms {
                    self.last.insert(instance.clone(), (node, at_ms));
                }
                output::print(&screen.place(&instance, &line))?;
            }
            Some(Ok(line)) => complain(&format!("{instance}: {}", line.text.trim_end())),
            // The end of the stream comes next.
            Some(Err(_)) => {}
            // Another node's output may have been opened in its place.
            None if self.open.get(&instance) == Some(&node) => drop(self.open.remove(&instance)),
            None => {}
        }
        Ok(())
    }
}

/// Puts lines of several instances under one another, each with its prefix.
struct Screen {
    /// The prefix of each, in the order in which they were met.
    prefixes: Vec<(String, String)>,
    with_prefix: bool,
    with_time: bool,
    /// Whose line has no line feed yet.
    open: Option<String>,
}

impl Screen {
    fn new(no_prefix: bool, with_time: bool) -> Self {
        Self { prefixes: Vec::new(), with_prefix: !no_prefix, with_time, open: None }
    }

    /// Makes the prefixes for these instances; those that have a colour keep it.
    fn know(&mut self, chosen: &[&InstanceView]) {
        for item in chosen {
            if !self.prefixes.iter().any(|(name, _)| *name == item.instance) {
                self.prefixes.push((item.instance.clone(), String::new()));
            }
        }
        let width = self.prefixes.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        let shown = self.with_prefix && self.prefixes.len() > 1;
        for (index, (name, prefix)) in self.prefixes.iter_mut().enumerate() {
            *prefix = match (shown, output::colours()) {
                (false, _) => String::new(),
                (true, false) => format!("{name:<width$} | "),
                (true, true) => {
                    format!("\x1b[{}m{name:<width$} |\x1b[0m ", COLOURS[index % COLOURS.len()])
                }
            };
        }
    }

    /// What is written for a piece of output: a line that another instance left open is ended
    /// first, and only the beginning of a line has prefix and time.
    fn place(&mut self, instance: &str, line: &LogLine) -> String {
        let known = self.prefixes.iter().find(|(name, _)| name == instance);
        let prefix = known.map_or("", |(_, prefix)| prefix.as_str());
        let mut placed = String::new();
        if self.open.as_ref().is_some_and(|open| open != instance) && !prefix.is_empty() {
            placed.push('\n');
            self.open = None;
        }
        if self.open.is_none() {
            placed += prefix;
            if let Some(at_ms) = line.at_ms.filter(|_| self.with_time) {
                placed += &instant::show(at_ms);
                placed.push(' ');
            }
        }
        placed += &line.text;
        self.open = (!line.text.ends_with('\n')).then(|| instance.to_owned());
        placed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::tests::instance;

    fn line(text: &str, at_ms: Option<u64>) -> LogLine {
        LogLine { stream: "stdout".to_owned(), text: text.to_owned(), at_ms }
    }

    #[test]
    fn every_line_has_one_prefix() {
        let (one, two) = (instance("a", "w", 1), instance("a", "w", 10));
        let mut screen = Screen::new(false, false);
        screen.know(&[&one, &two]);
        let pieces = [(1, "x\n"), (10, "half"), (10, " line\n"), (1, "open"), (10, "y\n")];
        let place =
            |(slot, text): &(u32, &str)| screen.place(&format!("a.w.{slot}"), &line(text, Some(7)));
        let text: String = pieces.iter().map(place).collect();
        let expected = "a.w.1  | x\na.w.10 | half line\na.w.1  | open\na.w.10 | y\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn one_instance_alone_has_none() {
        let one = instance("a", "w", 1);
        let mut screen = Screen::new(false, true);
        screen.know(&[&one]);
        let text =
            screen.place("a.w.1", &line("x\n", Some(0))) + &screen.place("a.w.1", &line("y", None));
        assert_eq!(text, "1970-01-01T00:00:00.000Z x\ny");
        // Another one comes later.
        screen.know(&[&instance("a", "w", 2)]);
        assert_eq!(screen.place("a.w.2", &line("z\n", None)), "\na.w.2 | z\n");
    }
}

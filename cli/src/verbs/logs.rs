//! `limpet logs`: what containers have written.

use clap::Args;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use limpet_controller::api::types::{InstanceView, LogLine};

use crate::client::{Client, ClientError};
use crate::{output, targets};

/// Most instances whose output is followed at once: each is a connection.
const MAX_FOLLOWED: usize = 64;
/// Colours of the prefixes, in turn: cyan, yellow, green, magenta, blue, and the bright ones.
const COLOURS: [u8; 10] = [36, 33, 32, 35, 34, 96, 93, 92, 95, 94];

/// Arguments of `limpet logs`.
#[derive(Debug, Args)]
#[command(after_help = "\
The output is kept on the node, bounded by the service's `logging` options, and read there: it is at hand while the
node can be reached.

Examples:
  limpet logs web               every instance of the service web, in every application
  limpet logs shop.web -f       of the application shop, and what follows
  limpet logs shop.web.2        one instance
  limpet logs shop --tail 20    everything of the application, the last 20 lines each")]
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
    let all = client.instances(None).await?.items;
    let mut chosen: Vec<&InstanceView> = Vec::new();
    for word in &args.targets {
        for found in targets::resolve(word, &all)? {
            if !chosen.iter().any(|known| known.instance == found.instance) {
                chosen.push(found);
            }
        }
    }
    if args.follow && chosen.len() > MAX_FOLLOWED {
        anyhow::bail!(
            "{} instances are too many to follow at once; at most {MAX_FOLLOWED}: name fewer",
            chosen.len()
        );
    }
    let mut screen = Screen::new(&chosen, args.no_prefix);
    if args.follow {
        return follow(args, client, &chosen, &mut screen).await;
    }
    let mut first_failure = None;
    for (index, instance) in chosen.iter().enumerate() {
        let lines = client.logs(&instance.instance, args.tail, false).await;
        let shown = match lines {
            Ok(lines) => show(index, lines.boxed(), &mut screen).await,
            Err(error) => Err(error.into()),
        };
        first_failure = first_failure.or(shown.err());
    }
    first_failure.map_or(Ok(()), Err)
}

async fn show(
    index: usize,
    mut lines: BoxStream<'_, Result<LogLine, ClientError>>,
    screen: &mut Screen,
) -> anyhow::Result<()> {
    while let Some(line) = lines.next().await {
        screen.take(index, &line?)?;
    }
    Ok(())
}

async fn follow(
    args: &LogsArgs,
    client: &Client,
    chosen: &[&InstanceView],
    screen: &mut Screen,
) -> anyhow::Result<()> {
    let mut streams = Vec::new();
    for (index, instance) in chosen.iter().enumerate() {
        let lines = client.logs(&instance.instance, args.tail, true).await?;
        streams.push(lines.map(move |line| (index, line)).boxed());
    }
    let mut lines = stream::select_all(streams);
    while let Some((index, line)) = lines.next().await {
        screen.take(index, &line?)?;
    }
    Ok(())
}

/// Puts lines of several instances under one another, each with its prefix.
struct Screen {
    names: Vec<String>,
    prefixes: Vec<String>,
    /// Whose line has no line feed yet.
    open: Option<usize>,
}

impl Screen {
    fn new(chosen: &[&InstanceView], no_prefix: bool) -> Self {
        let names: Vec<String> = chosen.iter().map(|item| item.instance.clone()).collect();
        let width = names.iter().map(String::len).max().unwrap_or_default();
        let colours = output::colours();
        let prefix =
            |(index, name): (usize, &String)| match (names.len() > 1 && !no_prefix, colours) {
                (false, _) => String::new(),
                (true, false) => format!("{name:<width$} | "),
                (true, true) => {
                    format!("\x1b[{}m{name:<width$} |\x1b[0m ", COLOURS[index % COLOURS.len()])
                }
            };
        let prefixes = names.iter().enumerate().map(prefix).collect();
        Self { names, prefixes, open: None }
    }

    fn take(&mut self, index: usize, line: &LogLine) -> anyhow::Result<()> {
        if line.stream == "error" {
            let instance = self.names[index].clone();
            let why = line.text.trim_end().to_owned();
            return Err(Incomplete { instance, why }.into());
        }
        output::print(&self.place(index, &line.text))?;
        Ok(())
    }

    /// What is written for a piece of output: a line that another instance left open is ended
    /// first, and only the beginning of a line has the prefix.
    fn place(&mut self, index: usize, text: &str) -> String {
        let mut placed = String::new();
        if self.open.is_some_and(|open| open != index) && !self.prefixes[index].is_empty() {
            placed.push('\n');
            self.open = None;
        }
        if self.open.is_none() {
            placed += &self.prefixes[index];
        }
        placed += text;
        self.open = (!text.ends_with('\n')).then_some(index);
        placed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::tests::instance;

    #[test]
    fn every_line_has_one_prefix() {
        let (one, two) = (instance("a", "w", 1), instance("a", "w", 10));
        let mut screen = Screen::new(&[&one, &two], false);
        let pieces = [(0, "x\n"), (1, "half"), (1, " line\n"), (0, "open"), (1, "y\n")];
        let text: String = pieces.iter().map(|(index, text)| screen.place(*index, text)).collect();
        let expected = "a.w.1  | x\na.w.10 | half line\na.w.1  | open\na.w.10 | y\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn one_instance_alone_has_none() {
        let one = instance("a", "w", 1);
        let mut screen = Screen::new(&[&one], false);
        assert_eq!(screen.place(0, "x\n") + &screen.place(0, "y"), "x\ny");
    }
}

//! `overlay demo`: a whole overlay in one command, with nothing installed, downloaded or configured.
//!
//! `place` is the temporary folder with everything in it, and its processes; `asking` puts questions as a client and as
//! a shell does; `acts` are the acts; `telling`, `picture` and `stage` say, draw and print; `going_on` says how to go on
//! after `--keep`. This file is the play.
//!
//! Nothing here is acted: data are generated and ingested, every node is a process of this program, rows come through
//! the client, and the failing command is run and its exit code read.
//!
//! Invariant: however the demo ends (its end, a failure, Ctrl-C, a closed terminal or pipe), no process and no folder of
//! it is left, unless `--keep` was given and it came to its end.

mod acts;
mod asking;
mod going_on;
mod picture;
mod place;
mod stage;
mod telling;

use std::io;
use std::time::Instant;

use super::arguments::DemoArgs;
use super::error::{CliError, Exit};
use super::spawn::Lifetime;
use super::target;
use crate::client::Client;
use crate::node::os;
use acts::Question;
use going_on::Typed;
use place::Place;
use stage::{Stage, Style};

/// Why the play broke off.
enum Broken {
    /// Whoever read stdout has had enough (`| head`).
    Closed,
    Failed(CliError),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Broken {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Broken::Closed,
            _ => Broken::Failed(CliError::caused(Exit::FAILED, "stdout cannot be written", &error)),
        }
    }
}

impl From<CliError> for Broken {
    fn from(error: CliError) -> Broken {
        Broken::Failed(error)
    }
}

/// Plays it from start to end, and cleans up.
pub fn run(arguments: &DemoArgs) -> Result<Exit, CliError> {
    let typed = Typed::now();
    // Nodes that are to be kept outlive the demo; others go with it, also when it is killed.
    let lifetime = if arguments.keep { Lifetime::ItsOwn } else { Lifetime::OfThisProgram };
    // Dropped last, so that nothing works in the folder any more when it goes.
    let mut place = Place::new(lifetime);
    let runtime = target::runtime()?;
    let played = runtime.block_on(async {
        tokio::select! {
            biased;
            _ = os::asked_to_end_or_hung_up() => Err(CliError::new(Exit::INTERRUPTED, "interrupted").into()),
            played = play(arguments, &typed, &mut place) => played,
        }
    });
    // Generating and ingesting cannot be interrupted; this waits until they are done, a second at most.
    drop(runtime);
    let played = match played {
        // What a command says about a dead node is true; why it is dead is what helps.
        Err(Broken::Failed(error)) if error.exit != Exit::INTERRUPTED => {
            Err(Broken::Failed(place.dead().unwrap_or(error)))
        }
        played => played,
    };
    match played {
        Ok(()) if arguments.keep => {
            place.keep();
            Ok(Exit::OK)
        }
        Ok(()) | Err(Broken::Closed) => Ok(Exit::OK),
        Err(Broken::Failed(error)) => Err(error),
    }
}

async fn play(arguments: &DemoArgs, typed: &Typed, place: &mut Place) -> Result<(), Broken> {
    let start = Instant::now();
    let mut stage = Stage::stdout();
    stage.title("overlay demo", "an overlay of six processes answers, fails honestly, and recovers")?;
    let made = place.make(arguments.days, arguments.seed).await?;
    acts::a_data_set(&mut stage, &made)?;
    let status = place.start().await?;
    acts::six_processes(&mut stage, place, &status)?;

    let client = Client::new(&place.leader_address()?);
    let question = Question::over(&made);
    let whole = acts::a_range(&mut stage, &client, &question).await?;
    acts::some_sql(&mut stage, &client).await?;
    place.check_alive()?;

    let victim = acts::victim(&status)?;
    acts::a_worker_dies(&mut stage, place, &question, &status, &victim).await?;
    acts::with_gaps(&mut stage, place, &question, &whole).await?;
    acts::it_comes_back(&mut stage, place, &client, &question, &victim, &whole).await?;
    place.check_alive()?;

    if arguments.keep {
        stage.act("It goes on", "The six processes stay. Type what you like; end them when you have seen enough.")?;
        for (what, command) in typed.commands(place.folder(), &question.command(&["--limit", "5"])) {
            stage.note(what)?;
            stage.verbatim(Style::Strong, &command)?;
        }
        return Ok(());
    }
    stage.act("The end", "Each process finishes its queries and ends; the folder goes with them.")?;
    let ended = place.end().await?;
    let folder = place.folder().display().to_string();
    place.remove().map_err(|error| CliError::caused(Exit::FAILED, format!("{folder} cannot be removed"), &error))?;
    stage.fact("ended", &format!("{ended}; nothing is left behind"))?;
    stage.fact("took", &format!("{:.1} s", start.elapsed().as_secs_f64()))?;
    stage.plain("")?;
    stage.note("the same, left running, to ask your own questions")?;
    stage.verbatim(Style::Strong, &typed.line(&["demo", "--keep"]))?;
    Ok(())
}

//! Submission beside lettre and mail-send: one run, one server, the same messages, at several round trip times.
//!
//! Not criterion: cases last from microseconds to seconds, and all clients must meet the same weather. Each client has its
//! turn in every round. `--quick` leaves most cases out. Compares throughput, the time of each message, and the processor
//! time of the client's thread.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cpu_time::ThreadTime;
use smtp_oauth::Chunking;
use smtp_oauth_benches::client::{Client, Failed, Kind, Target, send_by_mail_send};
use smtp_oauth_benches::delay;
use smtp_oauth_benches::figure::{self, Figure, Spent};
use smtp_oauth_benches::load::{KIB, Load, MIB};
use smtp_oauth_benches::sink::Sink;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};

const ROUNDS: usize = 3;

/// A client that takes longer than that for a message has only one round.
const SLOW: Duration = Duration::from_millis(1500);

const POOL: u32 = 3;
const TASKS: usize = 200;
const EACH: usize = 2;

/// How much is measured.
struct Plan {
    round_trips: &'static [u64],
    /// Recipients and octets.
    cases: &'static [(usize, usize)],
    /// How long a client sends in each round.
    turn: Duration,
    first_sends: usize,
}

const FULL: Plan = Plan {
    round_trips: &[0, 20, 80],
    cases: &[
        (1, 2 * KIB),
        (5, 2 * KIB),
        (10, 2 * KIB),
        (100, 2 * KIB),
        (1, 100 * KIB),
        (5, 100 * KIB),
        (100, 100 * KIB),
        (1, 25 * MIB),
        (5, 25 * MIB),
        (100, 25 * MIB),
    ],
    turn: Duration::from_millis(250),
    first_sends: 5,
};

const QUICK: Plan = Plan {
    round_trips: &[0, 20],
    cases: &[(1, 2 * KIB), (10, 2 * KIB), (1, 100 * KIB), (1, 25 * MIB)],
    turn: Duration::from_millis(150),
    first_sends: 2,
};

fn main() -> Result<(), Failed> {
    let plan = if std::env::args().any(|argument| argument == "--quick") { QUICK } else { FULL };
    let sink = Sink::start(0)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    // lettre's transport is built and dropped inside a runtime only.
    let _inside = runtime.enter();
    let mut figures = Vec::new();
    for round_trip in plan.round_trips {
        let address = match round_trip {
            0 => sink.address(),
            _ => delay::start(sink.address(), Duration::from_millis(*round_trip))?,
        };
        let scene = Scene { sink: &sink, target: Target::new(&sink, address), round_trip_ms: *round_trip };
        scene.first(&runtime, &plan, &mut figures)?;
        scene.warm(&runtime, &plan, &mut figures)?;
        // Far away it says nothing new and takes minutes.
        if *round_trip <= 20 {
            scene.pool(&runtime, &mut figures)?;
        }
    }
    figure::write("submission", &figures)?;
    Ok(())
}

/// One round trip time.
struct Scene<'a> {
    sink: &'a Sink,
    target: Target,
    round_trip_ms: u64,
}

impl Scene<'_> {
    /// From nothing to the first message: TCP, STARTTLS, TLS, AUTH.
    fn first(&self, runtime: &Runtime, plan: &Plan, figures: &mut Vec<Figure>) -> Result<(), Failed> {
        let load = Load::new(1, 2 * KIB);
        let mut all = Vec::new();
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Ceiling) {
            // What a process does once, such as gathering entropy, is left out.
            runtime.block_on(send(&mut Client::new(kind, &self.target)?, &load, &mut Spent::default()))?;
            let (mut spent, before) = (Spent::default(), self.sink.connections());
            for _ in 0..plan.first_sends {
                let mut client = Client::new(kind, &self.target)?;
                runtime.block_on(send(&mut client, &load, &mut spent))?;
            }
            all.push((kind.name(), spent, self.sink.connections() - before));
        }
        self.report("first", &load, all, figures);
        Ok(())
    }

    /// Message after message over one connection.
    fn warm(&self, runtime: &Runtime, plan: &Plan, figures: &mut Vec<Figure>) -> Result<(), Failed> {
        let warm_up = Load::new(1, 2 * KIB);
        let clients = Kind::ALL.into_iter().map(|kind| Client::new(kind, &self.target));
        let mut clients = clients.collect::<Result<Vec<_>, _>>()?;
        for (recipients, octets) in plan.cases {
            let load = Load::new(*recipients, *octets);
            let mut all: Vec<_> = Kind::ALL.map(|kind| (kind.name(), Spent::default(), 0)).into();
            for _ in 0..ROUNDS {
                for (client, (_, spent, connections)) in clients.iter_mut().zip(&mut all) {
                    if spent.times.iter().any(|time| *time > SLOW) {
                        continue;
                    }
                    let before = self.sink.connections();
                    runtime.block_on(async {
                        // A connection that was idle meanwhile is looked at first by some clients.
                        send(client, &warm_up, &mut Spent::default()).await?;
                        let turn = Instant::now();
                        while turn.elapsed() < plan.turn {
                            send(client, &load, spent).await?;
                        }
                        Ok::<_, Failed>(())
                    })?;
                    *connections += self.sink.connections() - before;
                }
            }
            self.report("warm", &load, all, figures);
        }
        Ok(())
    }

    /// Many tasks over three connections.
    fn pool(&self, runtime: &Runtime, figures: &mut Vec<Figure>) -> Result<(), Failed> {
        let load = Arc::new(Load::new(1, 2 * KIB));
        let mut all = Vec::new();
        // lettre's limit caps idle connections only; with a semaphore before it, it is told what a mailbox allows.
        let senders = [
            (Kind::Chunking, TASKS, Kind::Chunking.name()),
            (Kind::Data, TASKS, Kind::Data.name()),
            (Kind::Lettre, TASKS, Kind::Lettre.name()),
            (Kind::Lettre, POOL as usize, "lettre, 3 at a time"),
            (Kind::MailSend, TASKS, Kind::MailSend.name()),
        ];
        for (kind, at_once, name) in senders {
            let before = self.sink.connections();
            let mut spent = Spent::default();
            let (started, cpu) = (Instant::now(), ThreadTime::now());
            spent.times = LocalSet::new().block_on(runtime, self.many(kind, at_once, &load))?;
            (spent.elapsed, spent.cpu) = (started.elapsed(), cpu.elapsed());
            all.push((name, spent, self.sink.connections() - before));
        }
        self.report("pool", &load, all, figures);
        Ok(())
    }

    /// Sends from [`TASKS`] tasks; returns how long each message took from when its task had it.
    async fn many(&self, kind: Kind, at_once: usize, load: &Arc<Load>) -> Result<Vec<Duration>, Failed> {
        let turns = Arc::new(Semaphore::new(at_once));
        let mut tasks = JoinSet::<Result<Vec<Duration>, Failed>>::new();
        let most = NonZeroU32::new(POOL).ok_or("no connection")?;
        match kind {
            Kind::Chunking | Kind::Data => {
                let chunking = if kind == Kind::Data { Chunking::Off } else { Chunking::Auto };
                let mailer = self.target.mailer(chunking, most)?;
                for _ in 0..TASKS {
                    tasks.spawn_local(each(Client::Own(mailer.clone()), load.clone(), turns.clone()));
                }
            }
            Kind::Lettre | Kind::LettreNoDelay => {
                let transport = self.target.lettre(POOL)?;
                for _ in 0..TASKS {
                    tasks.spawn_local(each(Client::Lettre(transport.clone()), load.clone(), turns.clone()));
                }
            }
            // It has no pool: three workers that share the messages are the least an application writes.
            Kind::MailSend | Kind::Ceiling => {
                let left = Arc::new(AtomicUsize::new(TASKS * EACH));
                for _ in 0..POOL {
                    let (builder, load, left) = (self.target.mail_send()?, load.clone(), left.clone());
                    tasks.spawn_local(async move {
                        let mut connection = builder.connect().await?;
                        let mut times = Vec::new();
                        let take = |count: usize| count.checked_sub(1);
                        while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                            let started = Instant::now();
                            send_by_mail_send(&mut connection, &load).await?;
                            times.push(started.elapsed());
                        }
                        Ok(times)
                    });
                }
            }
        }
        let mut times = Vec::new();
        while let Some(sent) = tasks.join_next().await {
            times.extend(sent??);
        }
        Ok(times)
    }

    /// Prints the cells of one case and keeps them.
    fn report(
        &self,
        scenario: &'static str,
        load: &Load,
        all: Vec<(&'static str, Spent, usize)>,
        figures: &mut Vec<Figure>,
    ) {
        let (recipients, octets) = (load.recipients.len(), load.message.len());
        println!("\n{scenario}, {} ms, {recipients} recipients, {octets} octets", self.round_trip_ms);
        let lettre = all.iter().find(|(client, ..)| *client == Kind::Lettre.name());
        let lettre = lettre.map_or(f64::NAN, |(_, spent, _)| spent.messages_per_second());
        for (client, spent, connections) in all {
            let rate = spent.messages_per_second();
            let figure = Figure {
                scenario,
                client,
                round_trip_ms: self.round_trip_ms,
                recipients,
                octets,
                messages: spent.times.len(),
                messages_per_second: rate,
                median_us: spent.quantile_us(0.5),
                p95_us: spent.quantile_us(0.95),
                cpu_us_per_message: spent.cpu_us_per_message(),
                connections,
            };
            println!(
                "  {client:<22}{rate:>10.1}/s {:>8.2} x lettre {:>12.0} us median {:>12.0} us p95 {:>10.1} us CPU  {:>4} new conn {:>6} msg",
                rate / lettre,
                figure.median_us,
                figure.p95_us,
                figure.cpu_us_per_message,
                connections,
                figure.messages,
            );
            figures.push(figure);
        }
    }
}

async fn send(client: &mut Client, load: &Load, spent: &mut Spent) -> Result<(), Failed> {
    let (started, cpu) = (Instant::now(), ThreadTime::now());
    client.send(load).await?;
    let elapsed = started.elapsed();
    spent.cpu += cpu.elapsed();
    spent.elapsed += elapsed;
    spent.times.push(elapsed);
    // lettre's pool takes a connection back in a task of its own, which needs a turn before the next message.
    tokio::task::yield_now().await;
    Ok(())
}

async fn each(mut client: Client, load: Arc<Load>, turns: Arc<Semaphore>) -> Result<Vec<Duration>, Failed> {
    let mut times = Vec::new();
    for _ in 0..EACH {
        let started = Instant::now();
        let _turn = turns.acquire().await?;
        client.send(&load).await?;
        times.push(started.elapsed());
    }
    Ok(times)
}

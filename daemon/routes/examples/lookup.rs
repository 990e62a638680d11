//! Measures what it takes to look an address up among 100,000 patterns, and prints nanoseconds: of one that some
//! pattern takes, and of one that none does.
//!
//! Each address is looked up once a round, in an order that no cache foresees; a number is that of the fastest round, as whatever
//! else the machine does only adds to it.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use mail_laser_routes::address::Address;
use mail_laser_routes::pattern::Pattern;
use mail_laser_routes::table::Table;

const PATTERNS: usize = 100_000;
const ROUNDS: usize = 15;

/// Prime, and no divisor of the number of patterns: its multiples visit each, far from the one before.
const STEP: usize = 61_253;

fn main() -> Result<(), Box<dyn Error>> {
    let patterns =
        (0..PATTERNS).map(|n| Ok((pattern(n).parse()?, n))).collect::<Result<Vec<(Pattern, _)>, _>>();
    let table = Table::new([], patterns.map_err(|error: mail_laser_routes::pattern::PatternError| error)?);
    let in_no_order = |address: fn(usize) -> String| {
        let addresses = (0..PATTERNS).map(|n| Address::parse(&address(n * STEP % PATTERNS)));
        addresses.collect::<Result<Vec<_>, _>>()
    };
    for (what, addresses, is_taken) in
        [("hit", in_no_order(taken)?, true), ("miss", in_no_order(other)?, false)]
    {
        let mut rounds = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let started = Instant::now();
            let found = addresses.iter().filter(|address| black_box(table.lookup(address)).is_some()).count();
            rounds.push(started.elapsed().as_nanos() / PATTERNS as u128);
            if found != if is_taken { PATTERNS } else { 0 } {
                return Err(format!("{what}: {found} of {PATTERNS} were found").into());
            }
        }
        println!("{what} {}", rounds.iter().min().ok_or("no round")?);
    }
    Ok(())
}

/// All kinds of patterns, as many of each.
fn pattern(n: usize) -> String {
    match n % 4 {
        0 => format!("user{n}@team-{n}.example.com"),
        1 => format!("user{n}+*@team-{n}.example.com"),
        2 => format!("*@team-{n}.example.com"),
        _ => format!("*@*.team-{n}.example.com"),
    }
}

/// An address that the pattern takes.
fn taken(n: usize) -> String {
    match n % 4 {
        0 => format!("user{n}@team-{n}.example.com"),
        1 => format!("user{n}+more@team-{n}.example.com"),
        2 => format!("anybody@team-{n}.example.com"),
        _ => format!("anybody@mail.team-{n}.example.com"),
    }
}

/// One that none takes, though it looks alike.
fn other(n: usize) -> String {
    match n % 4 {
        0 | 1 => format!("nobody+more@team-{n}.example.org"),
        2 => format!("nobody@mail.team-{n}.example.org"),
        _ => format!("nobody@other-{n}.example.com"),
    }
}

//! `guan conformance`: the scorecard of TC609-6-2025-16 for an access connector (接入连接器).
//!
//! It says what this release does, not what it plans; it looks at no box and passes no judgement of a
//! test centre.

mod table;

use super::print_json;
use serde_json::json;
use std::process::ExitCode;
use table::{Level, ROWS, Row, State};

/// The document whose sections 7 and 8 are the rows.
const DOCUMENT: &str = "TC609-6-2025-16";

pub(super) fn execute(json: bool) -> anyhow::Result<ExitCode> {
    if json {
        print_json(&json!({
            "document": DOCUMENT,
            "rows": ROWS.iter().map(row_json).collect::<Vec<_>>(),
            "counts": {
                "rows": ROWS.len(),
                "reached": count(State::Reached, None),
                "partly": count(State::Partly, None),
                "not_yet": count(State::NotYet, None),
            },
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("{DOCUMENT}, access connector (接入连接器): sections 7 and 8");
    let widest = ROWS.iter().map(|row| columns(row.name)).max().unwrap_or(0);
    for row in &ROWS {
        let padding = " ".repeat(widest - columns(row.name));
        let Row { number, name, english, .. } = row;
        let (level, state) = (row.level.name(), row.state.name());
        println!("{number}  {name}{padding}  {level}  {state:<7}  {english}");
        if let Some(command) = row.command {
            println!("       shown by: {command}");
        }
        if let Some(missing) = row.missing {
            println!("       missing:  {missing}");
        }
    }
    for level in [None, Some(Level::Basic), Some(Level::Extended)] {
        let of = |state| count(state, level);
        let (reached, partly, not_yet) = (of(State::Reached), of(State::Partly), of(State::NotYet));
        let name = level.map_or("all", Level::name);
        let rows = reached + partly + not_yet;
        println!("{name}: {rows} rows, {reached} reached, {partly} partly, {not_yet} not yet");
    }
    Ok(ExitCode::SUCCESS)
}

fn row_json(row: &Row) -> serde_json::Value {
    json!({
        "number": row.number, "name": row.name, "english": row.english,
        "level": row.level.name(), "state": row.state.word(),
        "command": row.command, "missing": row.missing,
    })
}

/// Rows in a state, of one level or of both.
fn count(state: State, level: Option<Level>) -> usize {
    let is_counted =
        |row: &&Row| row.state == state && level.is_none_or(|level| row.level == level);
    ROWS.iter().filter(is_counted).count()
}

/// How many columns of a terminal a text takes: Chinese characters take two.
fn columns(text: &str) -> usize {
    text.chars().map(|c| if c >= '\u{1100}' { 2 } else { 1 }).sum()
}

#[cfg(test)]
mod tests {
    use super::super::Arguments;
    use super::*;
    use clap::{CommandFactory, Parser};
    use std::collections::BTreeSet;

    #[test]
    fn the_rows_are_those_of_the_document() {
        assert_eq!(ROWS.len(), 29);
        let numbers: BTreeSet<&str> = ROWS.iter().map(|row| row.number).collect();
        assert_eq!(numbers.len(), ROWS.len(), "numbers are unique");
        assert!(ROWS.is_sorted_by_key(|row| row.number));
        // Rows a section, as in tables 13 to 21.
        let sections = [
            ("7.1", 3),
            ("7.2", 3),
            ("7.3", 3),
            ("7.4", 3),
            ("7.5", 3),
            ("7.6", 4),
            ("8.1", 2),
            ("8.2", 4),
            ("8.3", 4),
        ];
        for (section, expect) in sections {
            let rows = ROWS.iter().filter(|row| row.number.starts_with(section));
            assert_eq!(rows.count(), expect, "section {section}");
        }
        let extended = ROWS.iter().filter(|row| row.level == Level::Extended);
        let extended: Vec<&str> = extended.map(|row| row.number).collect();
        assert_eq!(extended, ["7.2a", "7.2b", "7.2c", "7.4b", "7.6b"]);
    }

    #[test]
    fn every_claim_has_a_command_that_exists() {
        for row in &ROWS {
            let is_claim = row.state != State::NotYet;
            assert_eq!(row.command.is_some(), is_claim, "{}", row.number);
            assert_eq!(row.missing.is_none(), row.state == State::Reached, "{}", row.number);
            let Some(command) = row.command else { continue };
            let words: Vec<&str> = command.split(' ').collect();
            assert_eq!(words[0], Arguments::command().get_name(), "{}", row.number);
            if let Err(fault) = Arguments::try_parse_from(&words) {
                panic!("{}: {command:?} is no command of ours: {fault}", row.number);
            }
        }
    }

    #[test]
    fn counts_add_up() {
        let all = [State::Reached, State::Partly, State::NotYet];
        assert_eq!(all.iter().map(|state| count(*state, None)).sum::<usize>(), ROWS.len());
        for state in all {
            let levels = [Level::Basic, Level::Extended].map(|level| count(state, Some(level)));
            assert_eq!(levels.iter().sum::<usize>(), count(state, None));
        }
    }

    #[test]
    fn chinese_takes_two_columns() {
        assert_eq!((columns("7.1a"), columns("目录")), (4, 4));
    }
}

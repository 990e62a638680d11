//! The table of variables in `docs/daemon.md` is what the daemon reads.

use mail_laser::config::variables::ALL;

#[test]
fn the_table_of_variables_is_complete_and_has_the_defaults() {
    let page = include_str!("../../../docs/daemon.md");
    let (_, section) = page.split_once("\n## Variables\n").expect("the section");
    let documented: Vec<(&str, &str)> = section
        .lines()
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|').map(|cell| cell.trim_matches([' ', '`']));
            Some((cells.next()?, cells.next()?))
        })
        .collect();
    let expected: Vec<(&str, &str)> = ALL
        .iter()
        .map(|variable| {
            let default = match variable.name {
                "MAIL_LASER_TARGET_EMAILS" | "MAIL_LASER_WEBHOOK_URL" => "required",
                "MAIL_LASER_HOSTNAME" => "the system's",
                _ => variable.default,
            };
            (variable.name, default)
        })
        .collect();
    assert_eq!(documented, expected);
}

use std::fmt::Write;

use crate::table::{Outcome, Row, Table};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em}\
table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #8884;padding:.4em .6em;text-align:left;\
vertical-align:top}code{font-size:.95em}.passed{color:#1a7f37}.failed{color:#b42318;font-weight:600}\
.not_capable{color:#777}.s{text-align:right;white-space:nowrap}small{display:block;color:#666}";

/// The table as a page that needs nothing beside it.
pub(crate) fn page(table: &Table) -> String {
    let mut rows = String::new();
    for row in &table.rows {
        rows.push_str(&line(row));
    }
    let (title, summary) = (escaped(&table.launcher), escaped(&table.summary()));
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Launcher conformance: {title}</title>\
         <style>{STYLE}</style></head>\n<body><h1>Launcher conformance: {title}</h1>\n<p>{summary}</p>\n\
         <table><thead><tr><th>check</th><th>outcome</th><th class=\"s\">time</th></tr></thead>\n<tbody>\n\
         {rows}</tbody></table></body></html>\n"
    )
}

fn line(row: &Row) -> String {
    let class = row.outcome.as_str().replace(' ', "_");
    let mut why = escaped(row.outcome.why());
    if let Outcome::Failed(_) = row.outcome {
        // Writing to a string cannot fail.
        let _ = write!(why, "<br>Look at: {}", escaped(&row.hint));
    }
    format!(
        "<tr><td><code>{}</code><small>{}</small></td><td><span class=\"{class}\">{}</span><small>{why}</small></td>\
         <td class=\"s\">{:.3} s</td></tr>\n",
        escaped(&row.name),
        escaped(&row.promise),
        row.outcome.as_str(),
        row.seconds,
    )
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            character => out.push(character),
        }
    }
    out
}

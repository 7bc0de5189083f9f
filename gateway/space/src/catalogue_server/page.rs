//! The page for people: a form, and what was found. No scripts, nothing from elsewhere.

use guan_catalogue::quality::Metric;
use guan_catalogue::search::Hit;

/// Rows of one page; a search narrows them.
const ROWS_MAX: usize = 200;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;\
    color:#1c2733}h1{font-size:1.4rem}form{margin:1rem 0;display:flex;gap:.5rem;flex-wrap:wrap}\
    input,select,button{font:inherit;padding:.35rem .6rem;border:1px solid #b6c2cf;border-radius:4px}\
    input[name=q]{flex:1 1 16rem}button{background:#0b5cad;color:#fff;border-color:#0b5cad}\
    table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.45rem .6rem;\
    border-bottom:1px solid #dde4ea;vertical-align:top}th{font-weight:600;background:#f4f7f9}\
    td.figure{text-align:right;font-variant-numeric:tabular-nums}code{font-size:.85em;color:#475766}\
    .fault{color:#a11}.note{color:#5a6b7b}";

/// `words`: as asked. All text comes from boxes or from whoever asks, and is escaped.
pub(super) fn render(words: &str, hits: &[Hit<'_>], fault: Option<&str>) -> String {
    let rows: String = hits.iter().take(ROWS_MAX).map(row).collect();
    let found = match (fault, hits.len()) {
        (Some(fault), _) => format!("<p class=fault>{}</p>", escaped(fault)),
        (None, 0) => "<p class=note>没有符合的数据集 / nothing fits</p>".to_owned(),
        (None, count) => {
            let rest = if count > ROWS_MAX { "; the first are shown" } else { "" };
            format!("<p class=note>{count} 个数据集 / datasets{rest}</p>")
        }
    };
    let table = match rows.is_empty() {
        true => String::new(),
        false => format!(
            "<table><thead><tr><th>数据集 Dataset<th>提供方 Provider<th>级别 Class<th>测点 Points\
             <th>完整性 Completeness<th>报价 Offers</tr></thead><tbody>{rows}</tbody></table>"
        ),
    };
    format!(
        "<!doctype html><html lang=zh><meta charset=utf-8><meta name=viewport \
         content='width=device-width'><title>数据目录 Catalogue</title><style>{STYLE}</style>\
         <h1>数据目录 Catalogue</h1><form><input name=q value=\"{}\" placeholder='词 words'>\
         <select name=class><option value=''>级别 any class<option value=general>一般 general\
         <option value=important>至重要 up to important</select><input name=unit size=8 \
         placeholder='单位 unit'><input name=completeness size=8 placeholder='≥ 0.95'>\
         <button>查找 Search</button></form>{found}{table}",
        escaped(words)
    )
}

fn row(hit: &Hit<'_>) -> String {
    let (catalogue, dataset) = (hit.catalogue, hit.dataset);
    let completeness = Metric::ALL.into_iter().find(|(name, _)| *name == "completeness");
    let share = dataset.latest().zip(completeness).and_then(|((day, figures), (_, metric))| {
        figures.share(metric).map(|share| format!("{share}<br><code>{day}</code>"))
    });
    let mut points: Vec<String> = dataset
        .points
        .iter()
        .take(4)
        .map(|point| {
            format!(
                "{} <code>{}</code>",
                escaped(point.name.as_str()),
                escaped(point.unit.as_str())
            )
        })
        .collect();
    if dataset.points.len() > 4 {
        points.push(format!("… {}", dataset.points.len()));
    }
    let offers: Vec<String> = catalogue
        .offers_of(&dataset.name)
        .map(|offer| escaped(offer.contract.title().unwrap_or(offer.id().as_str())))
        .collect();
    let id = escaped(dataset.id.as_str());
    format!(
        "<tr><td>{}<br><a href=\"/resolve/{id}\"><code>{id}</code></a><td>{}<br><code>{}</code><td>{}\
         <td>{}<td class=figure>{}<td>{}</tr>",
        escaped(dataset.name.as_str()),
        escaped(catalogue.provider.as_str()),
        escaped(catalogue.box_id.as_str()),
        dataset.class.name(),
        points.join("<br>"),
        share.unwrap_or_else(|| "–".to_owned()),
        offers.join("<br>"),
    )
}

/// Text that is only text in HTML, within quotes too.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_asks_for_stays_text() {
        let page = render("\"><script>alert('x')</script>&", &[], Some("<b>"));
        assert!(
            page.contains(
                "value=\"&quot;&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;\""
            )
        );
        assert!(!page.contains("<script") && !page.contains("<b>"));
    }
}

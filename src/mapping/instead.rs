//! What may have been meant by a name that is not known.

use strsim::jaro_winkler;

/// How alike two names are that may be confused, from 0 to 1.
const ALIKE: f64 = 0.8;
/// Most names that are told in place of one.
const TOLD_MAX: usize = 10;

/// What is there in place of `name`: the one that is most like it, or all of them.
pub(super) fn instead<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let scored = known.iter().map(|known| (jaro_winkler(name, known), known));
    let alike = scored.filter(|(score, _)| *score >= ALIKE);
    if let Some((_, near)) = alike.max_by(|one, other| one.0.total_cmp(&other.0)) {
        return format!("did you mean `{near}`?");
    }
    let told: Vec<String> = known.iter().take(TOLD_MAX).map(|name| format!("`{name}`")).collect();
    let told = told.join(", ");
    match known.len().saturating_sub(TOLD_MAX) {
        0 if told.is_empty() => "there is none".to_owned(),
        0 => format!("there is {told}"),
        more => format!("there is {told} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_is_most_like_it_is_told_or_what_there_is() {
        let known = ["orders", "reports"];
        assert_eq!(instead("order", known.into_iter()), "did you mean `orders`?");
        assert_eq!(instead("nowhere", known.into_iter()), "there is `orders`, `reports`");
        assert_eq!(instead("orders", std::iter::empty()), "there is none");
        let many: Vec<String> = (0..12).map(|number| format!("c{number}")).collect();
        let told = instead("xyz", many.iter().map(String::as_str));
        assert!(told.ends_with("`c9` and 2 more"), "{told}");
    }
}

//! Lists, complete: the server gives them page by page.

use super::CommandError;

const LARGEST_PAGE: u32 = 100;

/// Follows the pages until there are no more, or `limit` items have come. `fetch` takes a page's size (0: as the server
/// likes) and its token, and gives the items and the next page's token.
pub async fn all<T>(
    limit: Option<u32>,
    mut fetch: impl AsyncFnMut(u32, String) -> Result<(Vec<T>, String), CommandError>,
) -> Result<Vec<T>, CommandError> {
    let most = limit.map_or(usize::MAX, |limit| limit as usize);
    let size = limit.map_or(0, |limit| limit.min(LARGEST_PAGE));
    let (mut items, mut token) = (Vec::new(), String::new());
    loop {
        let (page, next) = fetch(size, token.clone()).await?;
        items.extend(page);
        if items.len() >= most || next.is_empty() {
            items.truncate(most);
            return Ok(items);
        }
        if next == token {
            return Err(CommandError::Answer("a page follows itself"));
        }
        token = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn numbers(limit: Option<u32>) -> Vec<usize> {
        let fetch = async |_, token: String| {
            let from: usize = token.parse().unwrap_or(0);
            let next = if from < 6 { (from + 3).to_string() } else { String::new() };
            Ok(((from..from + 3).collect(), next))
        };
        all(limit, fetch).await.unwrap()
    }

    #[tokio::test]
    async fn pages_are_followed_to_the_end() {
        assert_eq!(numbers(None).await, (0..9).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_limit_is_kept() {
        assert_eq!(numbers(Some(4)).await, [0, 1, 2, 3]);
    }

    #[tokio::test]
    async fn a_page_that_follows_itself_is_no_endless_loop() {
        let fetch = async |_, _| Ok((vec![1], "x".to_owned()));
        assert!(matches!(all(None, fetch).await, Err(CommandError::Answer(_))));
    }
}

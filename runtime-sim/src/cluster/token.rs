//! Service accounts' tokens, and their review.

use std::collections::BTreeMap;

use mesh_core::runtime::cluster::{ClusterError, TokenReview};
use mesh_core::time::WallTime;

/// Whom a token is for, and how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSpec {
    /// The service account's namespace.
    pub namespace: String,
    /// The service account.
    pub account: String,
    /// Whom it may be shown to.
    pub audience: String,
    /// The pod it is bound to: with that it ends.
    pub pod: Option<String>,
    /// When it ends by itself; never where nothing is said.
    pub expires: Option<WallTime>,
}

#[derive(Debug, Default)]
pub(super) struct Tokens {
    issued: BTreeMap<String, Token>,
}

#[derive(Debug)]
struct Token {
    spec: TokenSpec,
    revoked: bool,
}

impl Tokens {
    pub(super) fn issue(&mut self, spec: TokenSpec) -> String {
        let TokenSpec { namespace, account, audience, .. } = &spec;
        let number = self.issued.len() + 1;
        let token = format!("simulated-token/{namespace}/{account}/{audience}/{number}");
        self.issued.insert(token.clone(), Token { spec, revoked: false });
        token
    }

    /// Ends the tokens of an account, as its deletion does: one made again has others.
    pub(super) fn revoke_account(&mut self, namespace: &str, account: &str) {
        self.revoke(|spec| spec.namespace == namespace && spec.account == account);
    }

    /// Ends the tokens that are bound to a pod.
    pub(super) fn revoke_pod(&mut self, namespace: &str, pod: &str) {
        self.revoke(|spec| spec.namespace == namespace && spec.pod.as_deref() == Some(pod));
    }

    fn revoke(&mut self, chosen: impl Fn(&TokenSpec) -> bool) {
        for token in self.issued.values_mut() {
            token.revoked |= chosen(&token.spec);
        }
    }

    /// Whose token it is, at `now` by the server's clock.
    pub(super) fn review(
        &self,
        token: &str,
        audience: &str,
        now: WallTime,
    ) -> Result<TokenReview, ClusterError> {
        let denied = |why: &str| Err(ClusterError::Denied(why.to_owned()));
        let Some(Token { spec, revoked }) = self.issued.get(token) else {
            return denied("unknown token");
        };
        if *revoked {
            return denied("the token's service account or pod has been deleted");
        }
        if spec.expires.is_some_and(|expires| expires <= now) {
            return denied("the token has expired");
        }
        if spec.audience != audience {
            return denied("token for another audience");
        }
        let pod = spec.pod.iter();
        let extra =
            pod.map(|pod| ("authentication.kubernetes.io/pod-name".to_owned(), vec![pod.clone()]));
        let username = format!("system:serviceaccount:{}:{}", spec.namespace, spec.account);
        Ok(TokenReview { username, extra: extra.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> WallTime {
        WallTime::from_unix_secs(seconds)
    }

    fn spec() -> TokenSpec {
        TokenSpec {
            namespace: "shop".to_owned(),
            account: "web".to_owned(),
            audience: "mesh".to_owned(),
            pod: Some("web-0".to_owned()),
            expires: Some(at(100)),
        }
    }

    #[test]
    fn a_token_names_its_account_and_pod() {
        let mut tokens = Tokens::default();
        let token = tokens.issue(spec());
        let review = tokens.review(&token, "mesh", at(1)).expect("valid");
        assert_eq!(review.username, "system:serviceaccount:shop:web");
        assert_eq!(review.extra["authentication.kubernetes.io/pod-name"], ["web-0"]);
    }

    #[test]
    fn a_token_is_good_for_its_audience_until_it_expires() {
        let mut tokens = Tokens::default();
        let token = tokens.issue(spec());
        assert!(tokens.review(&token, "another", at(1)).is_err());
        assert!(tokens.review(&token, "mesh", at(99)).is_ok());
        assert!(tokens.review(&token, "mesh", at(100)).is_err());
    }

    #[test]
    fn a_token_ends_with_its_account_or_pod() {
        let mut tokens = Tokens::default();
        let (first, second) =
            (tokens.issue(spec()), tokens.issue(TokenSpec { pod: None, ..spec() }));
        tokens.revoke_pod("shop", "web-0");
        assert!(tokens.review(&first, "mesh", at(1)).is_err());
        assert!(tokens.review(&second, "mesh", at(1)).is_ok());
        tokens.revoke_account("shop", "web");
        assert!(tokens.review(&second, "mesh", at(1)).is_err());
        let third = tokens.issue(spec());
        assert!(tokens.review(&third, "mesh", at(1)).is_ok(), "the account made again");
    }
}

//! The two ways of a login: by a browser that comes back (PKCE), and by a code for a browser elsewhere (RFC 8628).

use std::sync::Arc;
use std::time::{Duration, Instant};

use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreClientAuthMethod,
    CoreDeviceAuthorizationResponse, CoreErrorResponseType, CoreGenderClaim, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreRevocableToken,
    CoreRevocationErrorResponse, CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AuthType, AuthenticationContextClass, AuthorizationCode, Client, ClientId, ClientSecret, CsrfToken,
    EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet, EndpointSet, IdTokenFields, Nonce,
    OAuth2TokenResponse as _, PkceCodeChallenge, RedirectUrl, Scope, StandardErrorResponse,
    StandardTokenResponse, TokenResponse as _, UserInfoClaims,
};
use ringfence_controlplane::{LoginClaims, LoginGoal, Provider, VerifiedLogin};
use ringfence_model::{NodeId, UnixMillis};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::discovery::{Discovery, Known, with_causes};
use super::pending::{PENDING_LIFE, Pending, Waiting};
use super::token::{self, Expected, Others};
use super::{Begun, LoginError, Returned};

type Fields = IdTokenFields<
    Others,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;

/// What a token endpoint gives.
type Tokens = StandardTokenResponse<Fields, CoreTokenType>;

/// We, as a client of one provider.
type RelyingParty = Client<
    Others,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    Tokens,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// A login by a code for a browser elsewhere, on its way.
pub struct DeviceLogin {
    discovery: Arc<Discovery>,
    known: Arc<Known>,
    secret: Option<Zeroizing<String>>,
    answer: CoreDeviceAuthorizationResponse,
    goal: LoginGoal,
}

/// Sends a person to `discovery`'s provider with a browser that comes back to `port` on their machine.
pub(super) async fn begin_in_browser(
    pending: &Pending,
    discovery: Arc<Discovery>,
    (node, id): (NodeId, u64),
    port: u16,
    goal: LoginGoal,
) -> Result<Begun, LoginError> {
    let known = discovery.known().await?;
    let redirect = format!("http://127.0.0.1:{port}/callback");
    let redirect = RedirectUrl::new(redirect).map_err(|error| LoginError::Provider(error.to_string()))?;
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let party = relying_party(&discovery.provider, &known, None).set_redirect_uri(redirect.clone());
    let mut request = party
        .authorize_url(
            CoreAuthenticationFlow::AuthorizationCode,
            || CsrfToken::new_random_len(SECRET_BYTES),
            || Nonce::new_random_len(SECRET_BYTES),
        )
        .add_scopes(scopes(&discovery.provider))
        .set_pkce_challenge(challenge)
        .set_max_age(max_age(&discovery.provider, goal));
    if let LoginGoal::SecondFactor { .. } = goal {
        let classes = discovery.provider.second_factor.acr.iter();
        request = classes.fold(request.add_prompt(CoreAuthPrompt::Login), |request, acr| {
            request.add_auth_context_value(AuthenticationContextClass::new(acr.clone()))
        });
    }
    let (url, state, nonce) = request.url();
    let begun = Begun {
        url: url.to_string(),
        user_code: None,
        state: Some(state.secret().clone()),
        expires_in: PENDING_LIFE,
    };
    let waiting = Waiting {
        discovery,
        state,
        nonce,
        verifier,
        redirect,
        goal,
        began: Instant::now(),
    };
    pending.add(node, id, waiting);
    Ok(begun)
}

/// Takes what the browser brought back.
pub(super) async fn finish_in_browser(
    waiting: Waiting,
    secret: Option<Zeroizing<String>>,
    returned: Returned,
    wall: UnixMillis,
) -> Result<VerifiedLogin, LoginError> {
    let same: bool = returned
        .state
        .as_bytes()
        .ct_eq(waiting.state.secret().as_bytes())
        .into();
    if !same {
        return Err(LoginError::State);
    }
    let discovery = waiting.discovery;
    let known = discovery.known().await?;
    // RFC 9207: a code that another provider's answer carried here must not be shown to this one.
    let says_issuer = known
        .metadata
        .additional_metadata()
        .authorization_response_iss_parameter_supported;
    match &returned.issuer {
        Some(issuer) if issuer != known.metadata.issuer().as_str() => return Err(LoginError::Issuer),
        None if says_issuer => return Err(LoginError::Issuer),
        Some(_) | None => {}
    }
    let party = relying_party(&discovery.provider, &known, secret.as_deref());
    let party = party.set_redirect_uri(waiting.redirect);
    let exchange = party
        .exchange_code(AuthorizationCode::new(returned.code.to_string()))
        .map_err(|error| LoginError::Provider(error.to_string()))?
        .set_pkce_verifier(waiting.verifier);
    let tokens = exchange.request_async(&discovery.fetcher).await;
    let tokens = tokens.map_err(|error| LoginError::Exchange(with_causes(&error)))?;
    let judged = Judged {
        discovery: &discovery,
        nonce: Some(&waiting.nonce),
        goal: waiting.goal,
        wall,
    };
    judged.login(&party, known, &tokens).await
}

/// Asks the provider for a code that the person enters in a browser elsewhere.
pub(super) async fn begin_by_device(
    discovery: Arc<Discovery>,
    secret: Option<Zeroizing<String>>,
    goal: LoginGoal,
) -> Result<(Begun, DeviceLogin), LoginError> {
    let known = discovery.known().await?;
    let endpoint = known
        .metadata
        .additional_metadata()
        .device_authorization_endpoint
        .clone();
    let endpoint = endpoint.ok_or(LoginError::NoDeviceFlow)?;
    let party = relying_party(&discovery.provider, &known, secret.as_deref());
    let party = party.set_device_authorization_url(endpoint);
    let mut request = party
        .exchange_device_code()
        .add_scopes(scopes(&discovery.provider))
        .add_extra_param(
            "max_age",
            // Zero is another word for `prompt=login`, and with that providers forget on the way of the code to ask anew
            // and to say when it was. Whether it was after this began, the token tells.
            max_age(&discovery.provider, goal)
                .max(AGE_BY_CODE_MIN)
                .as_secs()
                .to_string(),
        );
    if let LoginGoal::SecondFactor { .. } = goal {
        request = request.add_extra_param("prompt", "login");
        let classes: Vec<&str> = discovery
            .provider
            .second_factor
            .acr
            .iter()
            .map(String::as_str)
            .collect();
        if !classes.is_empty() {
            request = request.add_extra_param("acr_values", classes.join(" "));
        }
    }
    let answer: Result<CoreDeviceAuthorizationResponse, _> = request.request_async(&discovery.fetcher).await;
    let answer = answer.map_err(|error| LoginError::Exchange(with_causes(&error)))?;
    let url = answer.verification_uri();
    let begun = Begun {
        url: url.to_string(),
        user_code: Some(answer.user_code().secret().clone()),
        state: None,
        expires_in: answer.expires_in().min(PENDING_LIFE),
    };
    if !begun.url.starts_with("https://") {
        return Err(LoginError::Provider(
            "its verification page is no https URL".to_owned(),
        ));
    }
    let login = DeviceLogin {
        discovery,
        known,
        secret,
        answer,
        goal,
    };
    Ok((begun, login))
}

impl DeviceLogin {
    /// Waits until the person has entered the code, or given up.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn finish(self, wall: impl Fn() -> UnixMillis) -> Result<VerifiedLogin, LoginError> {
        let discovery = self.discovery;
        let party = relying_party(&discovery.provider, &self.known, self.secret.as_deref());
        let request = party
            .exchange_device_access_token(&self.answer)
            .map_err(|error| LoginError::Provider(error.to_string()))?;
        let patience = self.answer.expires_in().min(PENDING_LIFE);
        let tokens = request
            .request_async(&discovery.fetcher, tokio::time::sleep, Some(patience))
            .await;
        let tokens = tokens.map_err(|error| LoginError::Exchange(with_causes(&error)))?;
        let judged = Judged {
            discovery: &discovery,
            nonce: None,
            goal: self.goal,
            wall: wall(),
        };
        judged.login(&party, self.known, &tokens).await
    }
}

/// What tokens are judged by.
struct Judged<'a> {
    discovery: &'a Discovery,
    nonce: Option<&'a Nonce>,
    goal: LoginGoal,
    wall: UnixMillis,
}

impl Judged<'_> {
    async fn login(
        self,
        party: &RelyingParty,
        known: Arc<Known>,
        tokens: &Tokens,
    ) -> Result<VerifiedLogin, LoginError> {
        let provider = &self.discovery.provider;
        let mut claims = match self.claims(&known, tokens) {
            Err(LoginError::UnknownKey) => {
                let newer = self.discovery.with_newer_keys(&known).await?;
                self.claims(&newer, tokens)?
            }
            judged => judged?,
        };
        let has_groups = provider.groups_claim.is_none() || !claims.groups.is_empty();
        if claims.email.is_none() || !has_groups {
            self.ask_user_info(party, tokens, &mut claims).await?;
        }
        Ok(claims.judge(provider, self.goal, self.wall)?)
    }

    fn claims(&self, known: &Known, tokens: &Tokens) -> Result<LoginClaims, LoginError> {
        let provider = &self.discovery.provider;
        let token = tokens.id_token().ok_or(LoginError::NoIdToken)?;
        let expected = Expected {
            issuer: known.metadata.issuer(),
            client_id: &ClientId::new(provider.client_id.clone()),
            keys: &known.keys,
            wall: self.wall,
        };
        let claims = token::verify(token, &expected, self.nonce, tokens.access_token())?;
        Ok(token::read(claims, provider))
    }

    /// With a code, what scopes ask for may stand at the UserInfo endpoint alone (OpenID Connect Core 1.0, section 5.4).
    async fn ask_user_info(
        &self,
        party: &RelyingParty,
        tokens: &Tokens,
        claims: &mut LoginClaims,
    ) -> Result<(), LoginError> {
        let subject = openidconnect::SubjectIdentifier::new(claims.subject.clone());
        let Ok(request) = party.user_info(tokens.access_token().clone(), Some(subject)) else {
            // It has no such endpoint.
            return Ok(());
        };
        let answer: Result<UserInfoClaims<Others, CoreGenderClaim>, _> =
            request.request_async(&self.discovery.fetcher).await;
        let more = answer.map_err(|error| LoginError::Exchange(with_causes(&error)))?;
        if claims.email.is_none() {
            claims.email = more.email().map(|email| email.to_string());
            claims.email_verified = more.email_verified() == Some(true);
        }
        if claims.groups.is_empty()
            && let Some(claim) = &self.discovery.provider.groups_claim
        {
            claims.groups = token::texts(more.additional_claims().by_name.get(claim));
        }
        let username = || more.preferred_username().map(|name| name.to_string());
        claims.username = claims.username.take().or_else(username);
        Ok(())
    }
}

/// What is new enough for a provider to ask no further.
const AGE_BY_CODE_MIN: Duration = Duration::from_secs(10);

/// How old the proof of identity may be. Naming it has the provider say how old it is (`auth_time`).
fn max_age(provider: &Provider, goal: LoginGoal) -> Duration {
    match goal {
        LoginGoal::Session => provider.session(),
        LoginGoal::SecondFactor { .. } => Duration::ZERO,
    }
}

fn scopes(provider: &Provider) -> impl Iterator<Item = Scope> + use<> {
    provider.scopes.clone().into_iter().map(Scope::new)
}

fn relying_party(provider: &Provider, known: &Known, secret: Option<&String>) -> RelyingParty {
    let client_id = ClientId::new(provider.client_id.clone());
    let secret = secret.map(|secret| ClientSecret::new(secret.clone()));
    let party = Client::from_provider_metadata(known.metadata.clone(), client_id, secret);
    // Basic is the default of OpenID Connect Discovery 1.0.
    let methods = known.metadata.token_endpoint_auth_methods_supported();
    let basic = methods.is_none_or(|methods| methods.contains(&CoreClientAuthMethod::ClientSecretBasic));
    party.set_auth_type(if basic {
        AuthType::BasicAuth
    } else {
        AuthType::RequestBody
    })
}

const SECRET_BYTES: u32 = 32;

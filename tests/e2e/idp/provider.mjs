// An OpenID provider for the tests: `oidc-provider`, a certified server, with accounts, a second factor, and a door for
// the test to turn its keys by. Everything is told by the environment.
import { createServer as createHttps } from 'node:https';
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import Provider from 'oidc-provider';

const { ISSUER, CERTIFICATE, KEY, CALLED_BACK, CONTROL_PORT = '9000' } = process.env;
const MFA = 'urn:ringfence:test:mfa';

const accounts = {
  ada: { password: 'lovelace', otp: '123456', groups: ['dba', 'staff'], verified: true },
  eve: { password: 'moriarty', otp: '654321', groups: ['staff'], verified: false },
};

// Who is no person: a CI that asks for tokens in its own name.
const machine = (client_id) => ({
  client_id,
  client_secret: 'a-client-secret-of-the-tests-alone',
  redirect_uris: [],
  grant_types: ['client_credentials'],
  response_types: [],
});

const newKey = () => {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' };
};

const configuration = (keys) => ({
  clients: [
    {
      client_id: 'ringfence',
      client_secret: 'a-client-secret-of-the-tests-alone',
      application_type: 'native',
      redirect_uris: ['http://127.0.0.1/callback'],
      grant_types: ['authorization_code', 'urn:ietf:params:oauth:grant-type:device_code'],
      response_types: ['code'],
      token_endpoint_auth_method: 'client_secret_basic',
      backchannel_logout_uri: CALLED_BACK,
      backchannel_logout_session_required: true,
    },
    machine('builder'),
    machine('stranger'),
  ],
  jwks: { keys },
  acrValues: [MFA],
  claims: {
    openid: ['sub', 'amr'],
    email: ['email', 'email_verified'],
    profile: ['name', 'preferred_username'],
    groups: ['groups'],
    acr: null,
    auth_time: null,
    sid: null,
    iss: null,
  },
  scopes: ['openid', 'email', 'profile', 'groups'],
  features: {
    devInteractions: { enabled: false },
    deviceFlow: { enabled: true },
    backchannelLogout: { enabled: true },
    rpInitiatedLogout: { enabled: true },
    clientCredentials: { enabled: true },
    // Access tokens that are JWTs (RFC 9068), for whom the machine says (RFC 8707).
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, resource) => ({
        scope: 'enrol',
        audience: resource,
        accessTokenTTL: 600,
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
  extraTokenClaims: (_, token) =>
    token.kind === 'ClientCredentials'
      ? { repository: `acme/${token.clientId}`, runner: { environment: 'production', tags: ['linux', 'db'] } }
      : undefined,
  pkce: { required: () => true, methods: ['S256'] },
  cookies: { keys: ['keys-of-the-tests-alone'] },
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  findAccount: async (_, id) =>
    accounts[id] && {
      accountId: id,
      claims: async () => ({
        sub: id,
        name: id,
        preferred_username: id,
        email: `${id}@example.com`,
        email_verified: accounts[id].verified,
        groups: accounts[id].groups,
      }),
    },
});

const page = (title, form) => `<!doctype html><title>${title}</title><h1>${title}</h1>${form}`;

const form = async (request) => {
  let body = '';
  for await (const chunk of request) body += chunk;
  return new URLSearchParams(body);
};

const wantsFactor = (prompt, params) =>
  (params.acr_values ?? '').split(' ').includes(MFA) || prompt.reasons.includes('essential_acrs');

async function interact(provider, request, response) {
  const { uid, prompt, params, session } = await provider.interactionDetails(request, response);
  response.setHeader('content-type', 'text/html');
  if (request.method === 'GET') {
    if (prompt.name === 'login') {
      const otp = wantsFactor(prompt, params) ? '<input name=otp placeholder="Code">' : '';
      response.end(
        page('Sign in', `<form method=post><input name=name><input name=password type=password>${otp}<button>Go</button></form>`),
      );
    } else {
      response.end(page('Consent', '<form method=post><button>Allow</button></form>'));
    }
    return;
  }
  const given = await form(request);
  if (prompt.name === 'login') {
    const account = accounts[given.get('name')];
    const otp = given.get('otp');
    if (!account || account.password !== given.get('password') || (otp !== null && otp !== account.otp)) {
      response.statusCode = 403;
      response.end(page('Wrong', ''));
      return;
    }
    const login = {
      accountId: given.get('name'),
      amr: otp === null ? ['pwd'] : ['pwd', 'otp', 'mfa'],
      ...(otp === null ? {} : { acr: MFA }),
    };
    await provider.interactionFinished(request, response, { login }, { mergeWithLastSubmission: false });
    return;
  }
  const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  const grantId = await grant.save();
  await provider.interactionFinished(request, response, { consent: { grantId } }, { mergeWithLastSubmission: true });
}

let keys = [newKey()];
let provider;
let answer;
const begin = () => {
  provider = new Provider(ISSUER, configuration(keys));
  provider.on('server_error', (_, error) => console.error(error));
  provider.on('backchannel.success', () => console.log('backchannel.success'));
  provider.on('backchannel.error', (_, error) => console.error('backchannel.error', error));
  answer = provider.callback();
};
begin();

const tls = { cert: readFileSync(CERTIFICATE), key: readFileSync(KEY) };
const url = new URL(ISSUER);
createHttps(tls, (request, response) => {
  if (!request.url.startsWith('/interaction/')) return answer(request, response);
  interact(provider, request, response).catch((error) => {
    console.error(error);
    response.statusCode = 500;
    response.end();
  });
}).listen(Number(url.port || 443), url.hostname, () => console.log('ready'));

// For the test alone: on the loopback interface of this machine.
createServer((request, response) => {
  if (request.url === '/turn-keys') {
    keys = [newKey()];
    begin();
  }
  response.end('done\n');
}).listen(Number(CONTROL_PORT), '127.0.0.1');

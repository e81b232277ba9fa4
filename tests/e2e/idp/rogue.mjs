// An issuer that makes tokens which a certified server will not make, signed with real keys. Nobody is asked anything: who
// comes is sent back at once. What is wrong with the next token is told by `GET /be/FAULT` on the loopback interface.
import { createServer as createHttps } from 'node:https';
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { createHmac, generateKeyPairSync, randomUUID, sign } from 'node:crypto';

const { ISSUER, CERTIFICATE, KEY, CONTROL_PORT = '9001' } = process.env;
const CLIENT = 'ringfence';
const SECRET = 'a-client-secret-of-the-tests-alone';

const newKey = () => ({ ...generateKeyPairSync('ec', { namedCurve: 'P-256' }), kid: randomUUID() });
let key = newKey();
let fault = 'none';
let lastNonce;
const codes = new Map();

const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
const signed = (header, claims, by = key) => {
  const message = `${encode(header)}.${encode(claims)}`;
  const signature = sign('sha256', Buffer.from(message), { key: by.privateKey, dsaEncoding: 'ieee-p1363' });
  return `${message}.${signature.toString('base64url')}`;
};

function idToken(nonce) {
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss: ISSUER, aud: CLIENT, sub: 'mallory', iat: now, exp: now + 300, auth_time: now, nonce };
  Object.assign(claims, { email: 'mallory@example.com', email_verified: true, groups: ['dba'] });
  const header = { alg: 'ES256', kid: key.kid };
  switch (fault) {
    case 'none':
      return signed(header, claims);
    case 'wrong-audience':
      return signed(header, { ...claims, aud: 'another-client' });
    case 'second-audience':
      return signed(header, { ...claims, aud: [CLIENT, 'another-client'] });
    case 'wrong-party':
      return signed(header, { ...claims, azp: 'another-client' });
    case 'wrong-issuer':
      return signed(header, { ...claims, iss: 'https://login.example.com' });
    case 'expired':
      return signed(header, { ...claims, iat: now - 200, exp: now - 120 });
    case 'from-the-future':
      return signed(header, { ...claims, iat: now + 600, exp: now + 900 });
    case 'no-algorithm':
      return `${encode({ alg: 'none' })}.${encode(claims)}.`;
    case 'shared-secret': {
      const message = `${encode({ alg: 'HS256' })}.${encode(claims)}`;
      return `${message}.${createHmac('sha256', SECRET).update(message).digest('base64url')}`;
    }
    case 'replayed-nonce':
      return signed(header, { ...claims, nonce: lastNonce });
    case 'no-nonce':
      return signed(header, { ...claims, nonce: undefined });
    case 'foreign-key':
      return signed(header, claims, newKey());
    case 'unpublished-key': {
      const other = newKey();
      return signed({ ...header, kid: other.kid }, claims, other);
    }
    case 'old-proof':
      return signed(header, { ...claims, auth_time: now - 30 * 86_400 });
    default:
      throw new Error(`no such fault: ${fault}`);
  }
}

// A token of a workload with this fault.
function workloadToken() {
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss: ISSUER, aud: 'ringfence', sub: 'job-1', iat: now, exp: now + 300, jti: randomUUID() };
  const header = { alg: 'ES256', kid: key.kid };
  switch (fault) {
    case 'none':
      return signed(header, claims);
    case 'wrong-audience':
      return signed(header, { ...claims, aud: 'another' });
    case 'second-audience':
      return signed(header, { ...claims, aud: ['ringfence', 'another'] });
    case 'wrong-issuer':
      return signed(header, { ...claims, iss: 'https://login.example.com' });
    case 'expired':
      return signed(header, { ...claims, iat: now - 200, exp: now - 120 });
    case 'endless':
      return signed(header, { ...claims, exp: now + 30 * 86_400 });
    case 'from-the-future':
      return signed(header, { ...claims, iat: now + 600, exp: now + 900 });
    case 'no-subject':
      return signed(header, { ...claims, sub: undefined });
    case 'no-algorithm':
      return `${encode({ alg: 'none' })}.${encode(claims)}.`;
    // Whoever takes the published key for a shared secret takes this (CVE-2015-9235).
    case 'shared-secret': {
      const message = `${encode({ ...header, alg: 'HS256' })}.${encode(claims)}`;
      const secret = key.publicKey.export({ format: 'pem', type: 'spki' });
      return `${message}.${createHmac('sha256', secret).update(message).digest('base64url')}`;
    }
    case 'own-key': {
      const jwk = newKey();
      const published = jwk.publicKey.export({ format: 'jwk' });
      return signed({ alg: 'ES256', jwk: published }, claims, jwk);
    }
    case 'foreign-key':
      return signed(header, claims, newKey());
    case 'unpublished-key': {
      const other = newKey();
      return signed({ ...header, kid: other.kid }, claims, other);
    }
    case 'altered': {
      const [head, , signature] = signed(header, claims).split('.');
      return `${head}.${encode({ ...claims, sub: 'job-2' })}.${signature}`;
    }
    case 'logout-token':
      return signed({ ...header, typ: 'logout+jwt' }, claims);
    default:
      throw new Error(`no such fault: ${fault}`);
  }
}

const json = (response, value) => {
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify(value));
};

const tls = { cert: readFileSync(CERTIFICATE), key: readFileSync(KEY) };
const url = new URL(ISSUER);
createHttps(tls, async (request, response) => {
  const asked = new URL(request.url, ISSUER);
  if (asked.pathname === '/.well-known/openid-configuration') {
    return json(response, {
      issuer: ISSUER,
      authorization_endpoint: `${ISSUER}/auth`,
      token_endpoint: `${ISSUER}/token`,
      jwks_uri: `${ISSUER}/keys`,
      response_types_supported: ['code'],
      subject_types_supported: ['public'],
      id_token_signing_alg_values_supported: ['ES256'],
    });
  }
  if (asked.pathname === '/keys') {
    const jwk = { ...key.publicKey.export({ format: 'jwk' }), kid: key.kid, use: 'sig' };
    return json(response, { keys: [jwk] });
  }
  if (asked.pathname === '/auth') {
    const code = randomUUID();
    codes.set(code, asked.searchParams.get('nonce'));
    const back = new URL(asked.searchParams.get('redirect_uri'));
    back.searchParams.set('code', code);
    back.searchParams.set('state', fault === 'foreign-state' ? 'another' : asked.searchParams.get('state'));
    if (fault === 'foreign-issuer') back.searchParams.set('iss', 'https://login.example.com');
    response.writeHead(303, { location: back.href });
    return response.end();
  }
  if (asked.pathname === '/token') {
    let body = '';
    for await (const chunk of request) body += chunk;
    const given = new URLSearchParams(body);
    const nonce = codes.get(given.get('code'));
    if (nonce === undefined || !given.get('code_verifier')) {
      response.statusCode = 400;
      return json(response, { error: 'invalid_grant' });
    }
    codes.delete(given.get('code'));
    if (fault === 'redirecting') {
      response.writeHead(307, { location: `${ISSUER}/token` });
      return response.end();
    }
    if (fault === 'endless') {
      response.setHeader('content-type', 'application/json');
      const more = () => response.write('x'.repeat(65_536), () => !response.destroyed && more());
      return more();
    }
    const token = idToken(nonce);
    lastNonce = nonce;
    return json(response, { access_token: 'opaque', token_type: 'Bearer', expires_in: 60, id_token: token });
  }
  response.statusCode = 404;
  response.end();
}).listen(Number(url.port || 443), url.hostname, () => console.log('ready'));

// For the test alone.
createServer((request, response) => {
  const [, be, what] = request.url.split('/');
  if (be === 'be') fault = what;
  if (be === 'turn-keys') key = newKey();
  if (be === 'workload') return response.end(workloadToken());
  response.end('done\n');
}).listen(Number(CONTROL_PORT), '127.0.0.1');

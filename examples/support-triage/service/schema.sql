-- Customers, tickets and their notes. Timestamps are UTC.

CREATE TABLE customers (
  id              integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  number          text NOT NULL UNIQUE DEFAULT 'N-' || substr(gen_random_uuid()::text, 1, 8),
  email           text NOT NULL,
  name            text NOT NULL,
  phone           text,
  address         text,
  tier            text NOT NULL DEFAULT 'free' CHECK (tier IN ('free', 'standard', 'premium', 'enterprise')),
  open_tickets    integer NOT NULL DEFAULT 0 CHECK (open_tickets >= 0),
  crm_contact_id  text,
  last_contact_at timestamptz,
  created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX customers_email_key ON customers (lower(email));

CREATE TABLE tickets (
  id              integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  message_id      text NOT NULL UNIQUE,
  customer_id     integer REFERENCES customers (id),
  sender          text,
  subject         text NOT NULL,
  subject_key     text NOT NULL,
  category        text NOT NULL CHECK (category IN ('billing', 'technical', 'account', 'cancellation', 'feedback', 'other')),
  urgency         text NOT NULL CHECK (urgency IN ('low', 'normal', 'high', 'urgent')),
  sentiment       text NOT NULL CHECK (sentiment IN ('angry', 'negative', 'neutral', 'positive')),
  status          text NOT NULL CHECK (status IN ('open', 'needs_human', 'escalated', 'closed')),
  summary         text NOT NULL,
  crm_activity_id text,
  replied_at      timestamptz,
  created_at      timestamptz NOT NULL DEFAULT now(),
  updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX tickets_sender_subject_idx ON tickets (sender, subject_key);

CREATE TABLE ticket_notes (
  id         bigserial PRIMARY KEY,
  ticket_id  integer NOT NULL REFERENCES tickets (id) ON DELETE CASCADE,
  author     text NOT NULL CHECK (author IN ('customer', 'assistant', 'system')),
  body       text NOT NULL CHECK (length(body) <= 100000),
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ticket_notes_ticket_idx ON ticket_notes (ticket_id);

INSERT INTO customers (number, email, name, phone, address, tier, open_tickets, crm_contact_id, created_at) VALUES
  ('C-1001', 'mira.holm@brightpath.example',     'Mira Holm',       '+45 32 55 01 10',   'Havnegade 4, 1058 Copenhagen',     'standard',   0, 'ct_1001', '2024-02-11'),
  ('C-1002', 'tom.okafor@northwind.example',     'Tom Okafor',      '+44 20 7946 0301',  '12 Tanner Street, London SE1',     'premium',    0, 'ct_1002', '2023-09-30'),
  ('C-1003', 'ops@lumenfreight.example',         'Lumen Freight',   '+1 312 555 0142',   '900 W Lake St, Chicago IL',        'enterprise', 0, 'ct_1003', '2022-05-04'),
  ('C-1004', 'yuki.tanaka@hoshino.example',      'Yuki Tanaka',     '+81 3 5550 0188',   '1-2-3 Ebisu, Shibuya, Tokyo',      'premium',    0, 'ct_1004', '2024-11-20'),
  ('C-1005', 'p.delacroix@atelier-bleu.example', 'Paul Delacroix',  '+33 1 55 55 01 23', '8 rue des Forges, 69001 Lyon',     'free',       0, 'ct_1005', '2025-01-15'),
  ('C-1006', 'sandra@kestrel-dental.example',    'Sandra Whitlock', '+1 415 555 0110',   '77 Hayes Street, San Francisco',   'premium',    1, 'ct_1006', '2023-03-03'),
  ('C-1007', 'j.brandt@brandt-soehne.example',   'Jörg Brandt',     '+49 30 5550 0177',  'Lindenallee 9, 10115 Berlin',      'free',       0, 'ct_1007', '2025-06-01'),
  ('C-1008', 'billing@oakandpine.example',       'Oak & Pine',      '+1 206 555 0199',   '5 Pike Place, Seattle WA',         'standard',   0, NULL,      '2025-08-19');

INSERT INTO tickets (message_id, customer_id, sender, subject, subject_key, category, urgency, sentiment, status, summary, crm_activity_id, replied_at, created_at, updated_at)
SELECT '<cal-sync-77@kestrel-dental.example>', id, email, 'Calendar sync stopped', 'calendar sync stopped', 'technical', 'normal', 'neutral', 'open',
       'Appointments no longer reach the shared calendar.', 'act_1', now() - interval '1 day', now() - interval '1 day', now() - interval '1 day'
FROM customers WHERE number = 'C-1006';

INSERT INTO ticket_notes (ticket_id, author, body, created_at)
SELECT id, 'customer', 'Since Monday nothing we book shows up in the shared calendar.', created_at FROM tickets;

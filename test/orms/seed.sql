CREATE TABLE users (
  id serial PRIMARY KEY,
  email text NOT NULL UNIQUE,
  name text NOT NULL,
  balance int NOT NULL DEFAULT 0 CHECK (balance >= 0)
);
CREATE TABLE posts (
  id serial PRIMARY KEY,
  user_id int NOT NULL REFERENCES users ON DELETE CASCADE,
  title text NOT NULL,
  meta jsonb,
  tags text[] NOT NULL DEFAULT '{}'
);
INSERT INTO users (email, name, balance) SELECT 'u' || n || '@example.com', 'User ' || n, n * 10 FROM generate_series(1, 5) n;
INSERT INTO posts (user_id, title, tags) SELECT 1 + n % 5, 'Post ' || n, ARRAY['t' || n % 3] FROM generate_series(1, 10) n;

-- Loaded by migration 0003: to change a function, write a new file and a migration that loads it.

-- Accounts, ledger rows, and what a wallet has: the parts that reserve and settle are made of.
-- The order of locks is said in 0009_few_statements.sql.

CREATE OR REPLACE FUNCTION billing_account(p_org uuid, p_kind text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_id bigint;
BEGIN
    -- In two branches, because no index serves IS NOT DISTINCT FROM.
    IF p_org IS NULL THEN
        SELECT id INTO v_id FROM billing_account WHERE org_id IS NULL AND kind = p_kind;
    ELSE
        SELECT id INTO v_id FROM billing_account WHERE org_id = p_org AND kind = p_kind;
    END IF;
    IF v_id IS NULL THEN
        INSERT INTO billing_account (org_id, kind) VALUES (p_org, p_kind)
            ON CONFLICT ON CONSTRAINT account_of_org DO NOTHING;
        SELECT id INTO STRICT v_id FROM billing_account
            WHERE org_id IS NOT DISTINCT FROM p_org AND kind = p_kind;
    END IF;
    RETURN v_id;
END $$;

-- Post one ledger row. Returns false if the same (source, kind, leg) was posted before.
CREATE OR REPLACE FUNCTION billing_post(
    p_debit bigint, p_credit bigint, p_amount bigint, p_kind text,
    p_source uuid, p_leg int, p_occurred timestamptz, p_reverses uuid DEFAULT NULL
) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    IF p_amount = 0 THEN
        RETURN false;
    END IF;
    INSERT INTO billing_transfer
        (id, debit_id, credit_id, amount_nano, kind, source_id, leg, reverses_id, occurred_at,
         created_at)
    VALUES (
        md5(p_source::text || ':' || p_kind || ':' || p_leg)::uuid,
        p_debit, p_credit, p_amount, p_kind, p_source, p_leg, p_reverses, p_occurred,
        clock_timestamp()
    ) ON CONFLICT ON CONSTRAINT transfer_once DO NOTHING;
    RETURN FOUND;
END $$;

-- Make sure that an organisation has a wallet with its first shard.
CREATE OR REPLACE FUNCTION billing_wallet_ensure(p_org uuid) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM billing_walletshard WHERE org_id = p_org) THEN
        RETURN;
    END IF;
    INSERT INTO billing_wallet (org_id, shard_count, stripe_customer_id, stripe_customer_attempt)
        VALUES (p_org, 1, '', 0) ON CONFLICT (org_id) DO NOTHING;
    INSERT INTO billing_walletshard
        (org_id, shard, prepaid_nano, owed_nano, held_nano, limit_nano)
        VALUES (p_org, 0, 0, 0, 0, 0) ON CONFLICT ON CONSTRAINT wallet_shard DO NOTHING;
END $$;

CREATE OR REPLACE FUNCTION billing_shard_of(p_org uuid, p_source uuid) RETURNS int
LANGUAGE sql STABLE AS $$
    SELECT (hashtext(p_source::text) & 2147483647) % shard_count
    FROM billing_wallet WHERE org_id = p_org
$$;

-- Book money received as prepaid, once per source. Returns whether it was new.
CREATE OR REPLACE FUNCTION billing_top_up(
    p_org uuid, p_source uuid, p_amount bigint, p_now timestamptz
) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    IF p_amount <= 0 THEN
        RAISE EXCEPTION 'a top-up must be positive';
    END IF;
    IF NOT billing_post(billing_account(NULL, 'cash'), billing_account(p_org, 'wallet'),
                        p_amount, 'top_up', p_source, 0, p_now) THEN
        RETURN false;
    END IF;
    PERFORM billing_wallet_ensure(p_org);
    UPDATE billing_walletshard SET prepaid_nano = prepaid_nano + p_amount
        WHERE org_id = p_org AND shard = billing_shard_of(p_org, p_source);
    RETURN true;
END $$;

-- Give credit, once per grant id. Returns whether it was new.
CREATE OR REPLACE FUNCTION billing_grant(
    p_grant uuid, p_org uuid, p_amount bigint, p_priority int, p_expires timestamptz,
    p_model uuid, p_vendor uuid, p_note text, p_now timestamptz
) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    IF p_amount <= 0 THEN
        RAISE EXCEPTION 'a grant must be positive';
    END IF;
    IF NOT billing_post(billing_account(NULL, 'promotion'), billing_account(p_org, 'grant'),
                        p_amount, 'grant', p_grant, 0, p_now) THEN
        RETURN false;
    END IF;
    PERFORM billing_wallet_ensure(p_org);
    INSERT INTO billing_grant
        (id, org_id, amount_nano, remaining_nano, held_nano, priority, expires_at, model_id,
         vendor_id, note, expiries, created_at)
        VALUES (p_grant, p_org, p_amount, p_amount, 0, p_priority, p_expires, p_model,
                p_vendor, p_note, 0, p_now);
    RETURN true;
END $$;

-- Take back what an expired grant has left and no job holds. Returns how much that was.
CREATE OR REPLACE FUNCTION billing_grant_expire(p_grant uuid, p_now timestamptz) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_grant billing_grant%ROWTYPE;
    v_left bigint;
BEGIN
    SELECT * INTO v_grant FROM billing_grant WHERE id = p_grant FOR UPDATE;
    v_left := v_grant.remaining_nano - v_grant.held_nano;
    IF v_left IS NULL OR v_left = 0 OR v_grant.expires_at IS NULL
       OR v_grant.expires_at > p_now THEN
        RETURN 0;
    END IF;
    PERFORM billing_post(billing_account(v_grant.org_id, 'grant'),
                         billing_account(NULL, 'promotion'),
                         v_left, 'expire', p_grant, v_grant.expiries, p_now);
    UPDATE billing_grant SET remaining_nano = held_nano, expiries = expiries + 1
        WHERE id = p_grant;
    RETURN v_left;
END $$;

-- Find p_amount in the shards of a wallet and hold it in one of them, the one that p_source
-- falls on if it can be. Returns the shard, or null if all together are short.
CREATE OR REPLACE FUNCTION billing_wallet_hold(
    p_org uuid, p_source uuid, p_amount bigint
) RETURNS int
LANGUAGE plpgsql AS $$
DECLARE
    v_shard int := billing_shard_of(p_org, p_source);
    v_other billing_walletshard%ROWTYPE;
    v_need bigint;
    v_part bigint;
    v_prepaid bigint;
BEGIN
    IF v_shard IS NULL THEN
        RETURN NULL;
    END IF;
    IF NOT EXISTS (SELECT FROM billing_walletshard WHERE org_id = p_org AND shard <> v_shard) THEN
        UPDATE billing_walletshard SET held_nano = held_nano + p_amount
            WHERE org_id = p_org AND shard = v_shard
              AND prepaid_nano + limit_nano - owed_nano - held_nano >= p_amount;
        RETURN CASE WHEN FOUND THEN v_shard END;
    END IF;
    -- An update that waits for a row and then finds it short keeps the row locked. Taking all
    -- locks by number with one held already would deadlock, so this one is undone first.
    BEGIN
        UPDATE billing_walletshard SET held_nano = held_nano + p_amount
            WHERE org_id = p_org AND shard = v_shard
              AND prepaid_nano + limit_nano - owed_nano - held_nano >= p_amount
              AND NOT EXISTS (  -- a debt above a lowered limit is everybody's
                  SELECT FROM billing_walletshard o
                  WHERE o.org_id = p_org
                    AND o.prepaid_nano + o.limit_nano - o.owed_nano - o.held_nano < 0);
        IF FOUND THEN
            RETURN v_shard;
        END IF;
        RAISE EXCEPTION USING ERRCODE = 'MK001';
    EXCEPTION WHEN SQLSTATE 'MK001' THEN
        NULL;
    END;
    -- Short: lock all shards in order and move what is missing into this one.
    PERFORM FROM billing_walletshard WHERE org_id = p_org ORDER BY shard FOR UPDATE;
    IF (SELECT sum(prepaid_nano + limit_nano - owed_nano - held_nano)
        FROM billing_walletshard WHERE org_id = p_org) < p_amount THEN
        RETURN NULL;
    END IF;
    SELECT p_amount - (prepaid_nano + limit_nano - owed_nano - held_nano) INTO v_need
        FROM billing_walletshard WHERE org_id = p_org AND shard = v_shard;
    FOR v_other IN SELECT * FROM billing_walletshard
        WHERE org_id = p_org AND shard <> v_shard
          AND prepaid_nano + limit_nano - owed_nano - held_nano > 0 ORDER BY shard
    LOOP
        EXIT WHEN v_need <= 0;
        v_part := LEAST(v_need, v_other.prepaid_nano + v_other.limit_nano - v_other.owed_nano
                                - v_other.held_nano);
        v_prepaid := LEAST(v_part, v_other.prepaid_nano);
        UPDATE billing_walletshard SET prepaid_nano = prepaid_nano - v_prepaid,
                                       limit_nano = limit_nano - (v_part - v_prepaid)
            WHERE id = v_other.id;
        UPDATE billing_walletshard SET prepaid_nano = prepaid_nano + v_prepaid,
                                       limit_nano = limit_nano + (v_part - v_prepaid)
            WHERE org_id = p_org AND shard = v_shard;
        v_need := v_need - v_part;
    END LOOP;
    UPDATE billing_walletshard SET held_nano = held_nano + p_amount
        WHERE org_id = p_org AND shard = v_shard
          AND prepaid_nano + limit_nano - owed_nano - held_nano >= p_amount;
    RETURN CASE WHEN FOUND THEN v_shard END;
END $$;

-- Capture p_amount of what a shard holds for a job and let go of the rest of it. Prepaid money
-- of the whole wallet goes before debt: what this shard lacks comes from the others, which get
-- room for debt in exchange. Returns how much was prepaid.
CREATE OR REPLACE FUNCTION billing_wallet_capture(
    p_org uuid, p_shard int, p_held bigint, p_amount bigint
) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_prepaid bigint;
    v_other billing_walletshard%ROWTYPE;
    v_part bigint;
    v_limit bigint;
BEGIN
    SELECT prepaid_nano INTO STRICT v_prepaid FROM billing_walletshard
        WHERE org_id = p_org AND shard = p_shard;
    IF v_prepaid < p_amount AND EXISTS (
        SELECT FROM billing_walletshard
        WHERE org_id = p_org AND shard <> p_shard AND prepaid_nano > 0)
    THEN
        PERFORM FROM billing_walletshard WHERE org_id = p_org ORDER BY shard FOR UPDATE;
        SELECT prepaid_nano, limit_nano INTO STRICT v_prepaid, v_limit FROM billing_walletshard
            WHERE org_id = p_org AND shard = p_shard;
        FOR v_other IN SELECT * FROM billing_walletshard
            WHERE org_id = p_org AND shard <> p_shard AND prepaid_nano > 0 ORDER BY shard
        LOOP
            v_part := LEAST(p_amount - v_prepaid, v_other.prepaid_nano);
            EXIT WHEN v_part <= 0;
            UPDATE billing_walletshard SET prepaid_nano = prepaid_nano - v_part,
                                           limit_nano = limit_nano + LEAST(v_part, v_limit)
                WHERE id = v_other.id;
            v_prepaid := v_prepaid + v_part;
            v_limit := v_limit - LEAST(v_part, v_limit);
        END LOOP;
        UPDATE billing_walletshard SET prepaid_nano = v_prepaid, limit_nano = v_limit
            WHERE org_id = p_org AND shard = p_shard;
    ELSE
        SELECT prepaid_nano INTO STRICT v_prepaid FROM billing_walletshard
            WHERE org_id = p_org AND shard = p_shard FOR UPDATE;
    END IF;
    v_prepaid := LEAST(v_prepaid, p_amount);
    UPDATE billing_walletshard SET held_nano = held_nano - p_held,
                                   prepaid_nano = prepaid_nano - v_prepaid,
                                   owed_nano = owed_nano + (p_amount - v_prepaid)
        WHERE org_id = p_org AND shard = p_shard;
    RETURN v_prepaid;
END $$;

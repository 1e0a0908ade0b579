-- Reserve and settle again, in as few statements as they can be: most of their time went into
-- starting statements, into locks on rows that all calls share, and into indexes. Loaded by
-- migration 0009; a change needs a new migration. billing_reserve and billing_settle here
-- supersede those of settle.sql; billing_draws_capture there is in use.

-- Locks are taken in the order hold, caps (by subject), grants (in the order of their use, only
-- those used), shards of the wallet: one alone, or else all of them by number and none before.
-- So where a wallet has several shards, an update of one that waited and then found that it no
-- longer fits is undone (a savepoint) before all are locked. Where it has only shard 0, the first
-- by number, keeping that one is in order. Whoever changes a whole wallet locks the wallet's row,
-- then all shards by number. A shard is the hot row and its lock spans the commit, so callers
-- reserve and settle last in their transaction.

-- Reserve. Returns 'ok', 'funds', or 'cap:' and the subject whose limit is reached; the caller
-- rolls back on anything but 'ok'. p_model and p_vendor say which grants may pay.
CREATE OR REPLACE FUNCTION billing_reserve(
    p_source uuid, p_org uuid, p_amount bigint, p_caps uuid[], p_limits bigint[],
    p_model uuid, p_vendor uuid, p_now timestamptz
) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_month date;
    v_need bigint := p_amount;
    v_part bigint;
    v_position int := 0;
    v_home int;  -- the shard that the source falls on
    v_shard int;
    v_is_alone boolean;  -- the wallet has no other shard
    v_has_grants boolean;
    v_cap record;
    v_grant record;
    v_grants CURSOR FOR SELECT id, remaining_nano - held_nano AS free FROM billing_grant
        WHERE org_id = p_org AND remaining_nano > held_nano AND remaining_nano > 0
          AND (expires_at IS NULL OR expires_at > p_now)
          AND (model_id IS NULL OR model_id = p_model)
          AND (vendor_id IS NULL OR vendor_id = p_vendor)
        ORDER BY priority, expires_at NULLS LAST, id FOR UPDATE;
BEGIN
    SELECT home,
           NOT EXISTS (SELECT FROM billing_walletshard WHERE org_id = p_org AND shard <> home),
           EXISTS (SELECT FROM billing_grant WHERE org_id = p_org AND remaining_nano > 0)
        INTO v_home, v_is_alone, v_has_grants
        FROM (SELECT (hashtext(p_source::text) & 2147483647) % shard_count AS home
              FROM billing_wallet WHERE org_id = p_org) w;
    IF p_caps <> '{}' THEN
        v_month := date_trunc('month', p_now AT TIME ZONE 'UTC')::date;
    END IF;
    -- As it mostly ends: all of it in the wallet, in the shard that the source falls on.
    INSERT INTO billing_hold
        (source_id, org_id, amount_nano, wallet_nano, shard, state, cap_subjects, cap_month,
         created_at)
        VALUES (p_source, p_org, p_amount, CASE WHEN v_has_grants THEN 0 ELSE p_amount END,
                COALESCE(v_home, 0), 'open', p_caps, v_month, p_now);
    IF p_amount = 0 THEN
        RETURN 'ok';
    END IF;
    IF p_caps <> '{}' THEN
        FOR v_cap IN SELECT subject, most FROM unnest(p_caps, p_limits) AS c (subject, most)
            ORDER BY subject
        LOOP
            INSERT INTO billing_spendcap (subject_id, month, spent_nano, held_nano)
                VALUES (v_cap.subject, v_month, 0, 0)
                ON CONFLICT ON CONSTRAINT cap_month DO NOTHING;
            UPDATE billing_spendcap SET held_nano = held_nano + p_amount
                WHERE subject_id = v_cap.subject AND month = v_month
                  AND spent_nano + held_nano + p_amount <= v_cap.most;
            IF NOT FOUND THEN
                RETURN 'cap:' || v_cap.subject;
            END IF;
        END LOOP;
    END IF;
    IF v_has_grants THEN
        -- One FETCH at a time: a FOR loop would fetch, and so lock, ten rows ahead.
        OPEN v_grants;
        WHILE v_need > 0 LOOP
            FETCH v_grants INTO v_grant;
            EXIT WHEN NOT FOUND;
            v_part := LEAST(v_need, v_grant.free);
            UPDATE billing_grant SET held_nano = held_nano + v_part WHERE id = v_grant.id;
            INSERT INTO billing_draw (source_id, grant_id, position, held_nano, captured_nano)
                VALUES (p_source, v_grant.id, v_position, v_part, 0);
            v_position := v_position + 1;
            v_need := v_need - v_part;
        END LOOP;
        CLOSE v_grants;
        IF v_need = 0 THEN
            RETURN 'ok';
        END IF;
    END IF;
    IF v_is_alone THEN
        UPDATE billing_walletshard SET held_nano = held_nano + v_need
            WHERE org_id = p_org AND shard = v_home
              AND prepaid_nano + limit_nano - owed_nano - held_nano >= v_need;
        v_shard := CASE WHEN FOUND THEN v_home END;
    END IF;
    IF v_shard IS NULL THEN  -- it has several shards, or got them while this waited
        v_shard := billing_wallet_hold(p_org, p_source, v_need);
    END IF;
    IF v_shard IS NULL THEN
        RETURN 'funds';
    END IF;
    IF v_has_grants OR v_shard <> v_home THEN
        UPDATE billing_hold SET wallet_nano = v_need, shard = v_shard WHERE source_id = p_source;
    END IF;
    RETURN 'ok';
END $$;

-- Capture p_amount of what a shard holds, as billing_wallet_capture does, but mostly by one
-- update of one shard. Returns how much was prepaid.
CREATE OR REPLACE FUNCTION billing_wallet_settle(
    p_org uuid, p_shard int, p_held bigint, p_amount bigint
) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_prepaid bigint;  -- as it was before the shard is locked: the update looks again
    v_is_sharded boolean;
    v_must_gather boolean;  -- other shards have prepaid money that this one lacks
BEGIN
    SELECT LEAST(s.prepaid_nano, p_amount), o.others > 0,
           s.prepaid_nano < p_amount AND o.prepaid > 0
        INTO STRICT v_prepaid, v_is_sharded, v_must_gather
        FROM billing_walletshard s, LATERAL (
            SELECT count(*) AS others, sum(prepaid_nano) AS prepaid FROM billing_walletshard
            WHERE org_id = p_org AND shard <> p_shard) o
        WHERE s.org_id = p_org AND s.shard = p_shard;
    IF NOT v_is_sharded THEN
        UPDATE billing_walletshard SET held_nano = held_nano - p_held,
                                       prepaid_nano = prepaid_nano - v_prepaid,
                                       owed_nano = owed_nano + (p_amount - v_prepaid)
            WHERE org_id = p_org AND shard = p_shard
              AND LEAST(prepaid_nano, p_amount) = v_prepaid;
        IF FOUND THEN
            RETURN v_prepaid;
        END IF;
    ELSIF NOT v_must_gather THEN
        BEGIN
            UPDATE billing_walletshard SET held_nano = held_nano - p_held,
                                           prepaid_nano = prepaid_nano - v_prepaid,
                                           owed_nano = owed_nano + (p_amount - v_prepaid)
                WHERE org_id = p_org AND shard = p_shard
                  AND LEAST(prepaid_nano, p_amount) = v_prepaid;
            IF FOUND THEN
                RETURN v_prepaid;
            END IF;
            RAISE EXCEPTION USING ERRCODE = 'MK001';
        EXCEPTION WHEN SQLSTATE 'MK001' THEN
            NULL;  -- the shard is let go of
        END;
    END IF;
    RETURN billing_wallet_capture(p_org, p_shard, p_held, p_amount);
END $$;

-- End a hold: capture p_amount of it (0 releases it whole), write the charge and its transfers.
-- p_shares is [{"org_id", "amount_nano", ...}], nearest vendor first; the platform keeps the
-- rest. Returns false, changing nothing, if the hold has ended before: the exactly-once fence.
CREATE OR REPLACE FUNCTION billing_settle(
    p_source uuid, p_vendor uuid, p_version uuid, p_price uuid, p_model_ref text, p_unit text,
    p_quantity numeric, p_amount bigint, p_lines jsonb, p_shares jsonb, p_occurred timestamptz
) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_hold billing_hold%ROWTYPE;
    v_granted bigint := 0;
    v_prepaid bigint := 0;
    v_postpaid bigint;
    v_vendors bigint;
    v_clearing bigint;  -- and the other accounts, null where there is none yet
    v_revenue bigint;
    v_wallet bigint;
    v_receivable bigint;
BEGIN
    UPDATE billing_hold
        SET state = CASE WHEN p_amount > 0 THEN 'captured' ELSE 'released' END,
            ended_at = clock_timestamp()
        WHERE source_id = p_source AND state = 'open'
        RETURNING * INTO v_hold;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF p_amount < 0 OR p_amount > v_hold.amount_nano THEN
        RAISE EXCEPTION 'charge % is not within the hold of %', p_amount, v_hold.amount_nano;
    END IF;
    SELECT COALESCE(sum((s->>'amount_nano')::bigint), 0),
           (SELECT id FROM billing_account WHERE org_id IS NULL AND kind = 'clearing'),
           (SELECT id FROM billing_account WHERE org_id IS NULL AND kind = 'revenue'),
           (SELECT id FROM billing_account WHERE org_id = v_hold.org_id AND kind = 'wallet'),
           (SELECT id FROM billing_account WHERE org_id = v_hold.org_id AND kind = 'receivable')
        INTO v_vendors, v_clearing, v_revenue, v_wallet, v_receivable
        FROM jsonb_array_elements(p_shares) s;
    IF v_vendors > p_amount THEN
        RAISE EXCEPTION 'shares of % exceed the charge of %', v_vendors, p_amount;
    END IF;
    IF v_hold.amount_nano > 0 AND v_hold.cap_subjects <> '{}' THEN
        PERFORM FROM billing_spendcap
            WHERE subject_id = ANY (v_hold.cap_subjects) AND month = v_hold.cap_month
            ORDER BY subject_id FOR UPDATE;
        UPDATE billing_spendcap
            SET held_nano = held_nano - v_hold.amount_nano, spent_nano = spent_nano + p_amount
            WHERE subject_id = ANY (v_hold.cap_subjects) AND month = v_hold.cap_month;
    END IF;
    IF v_hold.amount_nano > v_hold.wallet_nano THEN
        v_clearing := COALESCE(v_clearing, billing_account(NULL, 'clearing'));
        v_granted := billing_draws_capture(p_source, v_hold.org_id, p_amount, v_clearing,
                                           p_occurred);
    END IF;
    v_postpaid := p_amount - v_granted;
    IF v_hold.wallet_nano > 0 THEN
        v_prepaid := billing_wallet_settle(v_hold.org_id, v_hold.shard, v_hold.wallet_nano,
                                           v_postpaid);
        v_postpaid := v_postpaid - v_prepaid;
    END IF;
    INSERT INTO billing_charge
        (source_id, org_id, vendor_id, version_id, price_id, model_ref, unit, quantity,
         quote_nano, amount_nano, granted_nano, prepaid_nano, postpaid_nano, vendors_nano,
         fee_nano, lines, shares, occurred_at)
    VALUES
        (p_source, v_hold.org_id, p_vendor, p_version, p_price, p_model_ref, p_unit, p_quantity,
         v_hold.amount_nano, p_amount, v_granted, v_prepaid, v_postpaid, v_vendors,
         p_amount - v_vendors, p_lines, p_shares, p_occurred);
    IF p_amount = 0 THEN
        RETURN true;
    END IF;
    -- Accounts are made when first used: in one order, so that two calls never wait in a circle.
    IF v_prepaid > 0 THEN
        v_wallet := COALESCE(v_wallet, billing_account(v_hold.org_id, 'wallet'));
    END IF;
    IF v_postpaid > 0 THEN
        v_receivable := COALESCE(v_receivable, billing_account(v_hold.org_id, 'receivable'));
    END IF;
    v_clearing := COALESCE(v_clearing, billing_account(NULL, 'clearing'));
    v_revenue := COALESCE(v_revenue, billing_account(NULL, 'revenue'));
    INSERT INTO billing_transfer
        (id, debit_id, credit_id, amount_nano, kind, source_id, leg, occurred_at, created_at)
    SELECT md5(p_source::text || ':' || kind || ':' || leg)::uuid, debit, credit, amount, kind,
           p_source, leg, p_occurred, clock_timestamp()
    FROM (
        VALUES (v_wallet, v_clearing, v_prepaid, 'fund_prepaid', 0),
               (v_receivable, v_clearing, v_postpaid, 'fund_postpaid', 0),
               (v_clearing, v_revenue, p_amount - v_vendors, 'fee', 0)
        UNION ALL
        SELECT v_clearing, COALESCE((SELECT id FROM billing_account
                                     WHERE org_id = share.org AND kind = 'payable'),
                                    billing_account(share.org, 'payable')),
               share.amount, 'share', share.leg
        FROM (SELECT (s.share->>'org_id')::uuid AS org, s.position::int - 1 AS leg,
                     (s.share->>'amount_nano')::bigint AS amount
              FROM jsonb_array_elements(p_shares) WITH ORDINALITY AS s (share, position)
              ORDER BY s.share->>'org_id') share
    ) AS leg (debit, credit, amount, kind, leg) WHERE amount > 0;
    RETURN true;
END $$;

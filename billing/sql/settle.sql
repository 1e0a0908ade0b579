-- Loaded by migration 0003: to change a function, write a new file and a migration that loads it.
-- Superseded by 0009_few_statements.sql: billing_reserve and billing_settle. In use:
-- billing_draws_capture.

-- The hot path of billing: one function call to reserve, one to settle. The order of locks is
-- said in 0009_few_statements.sql; these keep it too.

-- Reserve. Returns 'ok', 'funds', or 'cap:' and the subject whose limit is reached; the caller
-- rolls back on anything but 'ok'. p_model and p_vendor say which grants may pay.
CREATE OR REPLACE FUNCTION billing_reserve(
    p_source uuid, p_org uuid, p_amount bigint, p_caps uuid[], p_limits bigint[],
    p_model uuid, p_vendor uuid, p_now timestamptz
) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_month date := date_trunc('month', p_now AT TIME ZONE 'UTC')::date;
    v_need bigint := p_amount;
    v_part bigint;
    v_position int := 0;
    v_shard int;
    v_cap record;
    v_grant record;
    v_grants CURSOR FOR SELECT id, remaining_nano - held_nano AS free FROM billing_grant
        WHERE org_id = p_org AND remaining_nano > held_nano AND remaining_nano > 0
          AND (expires_at IS NULL OR expires_at > p_now)
          AND (model_id IS NULL OR model_id = p_model)
          AND (vendor_id IS NULL OR vendor_id = p_vendor)
        ORDER BY priority, expires_at NULLS LAST, id FOR UPDATE;
BEGIN
    INSERT INTO billing_hold
        (source_id, org_id, amount_nano, wallet_nano, shard, state, cap_subjects, cap_month,
         created_at)
        VALUES (p_source, p_org, p_amount, 0, 0, 'open', p_caps,
                CASE WHEN p_caps = '{}' THEN NULL ELSE v_month END, p_now);
    IF p_amount = 0 THEN
        RETURN 'ok';
    END IF;
    FOR v_cap IN SELECT subject, most FROM unnest(p_caps, p_limits) AS c (subject, most)
        ORDER BY subject
    LOOP
        INSERT INTO billing_spendcap (subject_id, month, spent_nano, held_nano)
            VALUES (v_cap.subject, v_month, 0, 0) ON CONFLICT ON CONSTRAINT cap_month DO NOTHING;
        UPDATE billing_spendcap SET held_nano = held_nano + p_amount
            WHERE subject_id = v_cap.subject AND month = v_month
              AND spent_nano + held_nano + p_amount <= v_cap.most;
        IF NOT FOUND THEN
            RETURN 'cap:' || v_cap.subject;
        END IF;
    END LOOP;
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
    v_shard := billing_wallet_hold(p_org, p_source, v_need);
    IF v_shard IS NULL THEN
        RETURN 'funds';
    END IF;
    UPDATE billing_hold SET wallet_nano = v_need, shard = v_shard WHERE source_id = p_source;
    RETURN 'ok';
END $$;

-- Capture p_amount of a hold's draws on grants, in their order, and let go of the rest of them.
-- Returns how much the grants paid.
CREATE OR REPLACE FUNCTION billing_draws_capture(
    p_source uuid, p_org uuid, p_amount bigint, p_clearing bigint, p_occurred timestamptz
) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_draw record;
    v_part bigint;
    v_paid bigint := 0;
BEGIN
    FOR v_draw IN SELECT * FROM billing_draw WHERE source_id = p_source ORDER BY position LOOP
        v_part := LEAST(v_draw.held_nano, p_amount - v_paid);
        UPDATE billing_grant SET held_nano = held_nano - v_draw.held_nano,
                                 remaining_nano = remaining_nano - v_part
            WHERE id = v_draw.grant_id;
        IF v_part > 0 THEN
            UPDATE billing_draw SET captured_nano = v_part WHERE id = v_draw.id;
            PERFORM billing_post(billing_account(p_org, 'grant'), p_clearing, v_part,
                                 'fund_grant', p_source, v_draw.position, p_occurred);
            v_paid := v_paid + v_part;
        END IF;
    END LOOP;
    RETURN v_paid;
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
    v_clearing bigint := billing_account(NULL, 'clearing');
    v_share record;
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
    SELECT COALESCE(sum((s->>'amount_nano')::bigint), 0) INTO v_vendors
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
        v_granted := billing_draws_capture(p_source, v_hold.org_id, p_amount, v_clearing,
                                           p_occurred);
    END IF;
    v_postpaid := p_amount - v_granted;
    IF v_hold.wallet_nano > 0 THEN
        v_prepaid := billing_wallet_capture(v_hold.org_id, v_hold.shard, v_hold.wallet_nano,
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
    IF v_prepaid > 0 THEN
        PERFORM billing_post(billing_account(v_hold.org_id, 'wallet'), v_clearing,
                             v_prepaid, 'fund_prepaid', p_source, 0, p_occurred);
    END IF;
    IF v_postpaid > 0 THEN
        PERFORM billing_post(billing_account(v_hold.org_id, 'receivable'), v_clearing,
                             v_postpaid, 'fund_postpaid', p_source, 0, p_occurred);
    END IF;
    -- Accounts are made when first used: in one order, so that two calls never wait in a circle.
    FOR v_share IN SELECT s.share, s.position::int - 1 AS leg
        FROM jsonb_array_elements(p_shares) WITH ORDINALITY AS s (share, position)
        ORDER BY s.share->>'org_id'
    LOOP
        PERFORM billing_post(v_clearing,
                             billing_account((v_share.share->>'org_id')::uuid, 'payable'),
                             (v_share.share->>'amount_nano')::bigint, 'share', p_source,
                             v_share.leg, p_occurred);
    END LOOP;
    PERFORM billing_post(v_clearing, billing_account(NULL, 'revenue'),
                         p_amount - v_vendors, 'fee', p_source, 0, p_occurred);
    RETURN true;
END $$;
